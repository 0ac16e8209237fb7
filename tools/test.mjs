import path from "node:path";
import { handOver } from "./bootstrap/hand-over.mjs";
import { main, NODE_OPTIONS, prepare, ROOT } from "./bootstrap/prepare.mjs";

// `npm test`: from a fresh clone to the closing line of every suite. Arguments choose stages.
await main(async () => {
  const node = await prepare({ bundles: true });
  const entry = path.join(ROOT, "tools", "run-tests.ts");
  return handOver(node, [...NODE_OPTIONS, entry, ...process.argv.slice(2)], { cwd: ROOT });
});
