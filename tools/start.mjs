import path from "node:path";
import { handOver } from "./bootstrap/hand-over.mjs";
import { DAEMON_ENVIRONMENT, DAEMON_OPTIONS, main, NODE_OPTIONS, prepare, ROOT } from "./bootstrap/prepare.mjs";

// `npm start`: from a fresh clone to a running daemon. Arguments go to `sprited start`.
await main(async () => {
  const node = await prepare({ bundles: true });
  const entry = path.join(ROOT, "packages", "daemon", "src", "main.ts");
  return handOver(node, [...NODE_OPTIONS, ...DAEMON_OPTIONS, entry, "start", ...process.argv.slice(2)], {
    env: { ...process.env, ...DAEMON_ENVIRONMENT },
  });
});
