import { handOver } from "./bootstrap/hand-over.mjs";
import { main, NODE_OPTIONS, prepare } from "./bootstrap/prepare.mjs";

// `node tools/with-node.mjs FILE [ARGS]`: runs a TypeScript file on the Node that npm brought.
await main(async () => {
  const node = await prepare({ bundles: false });
  return handOver(node, [...NODE_OPTIONS, ...process.argv.slice(2)]);
});
