/**
 * Builds or refreshes a home for development: kernel, QEMU, system image with the agent as it is in
 * the checkout, and the named base images.
 *
 *   node tools/build-dev.ts HOME [IMAGE…]
 */
import path from "node:path";
import { silentLogger } from "@sprited/base";
import { DEFAULT_MIRROR, DEFAULT_SECURITY_MIRROR, homeLayout, openDiskPool, openImageStore, provision } from "@sprited/disk";
import { bundleAgent } from "./agent-bundle.ts";

const ROOT = path.resolve(import.meta.dirname, "..");
const [home, ...imageNames] = process.argv.slice(2);
if (home === undefined) {
  console.error("usage: node tools/build-dev.ts HOME [IMAGE…]");
  process.exit(64);
}

const started = performance.now();
const layout = homeLayout(path.resolve(home));
const isRoot = process.getuid?.() === 0;
const agentBundle = path.join(layout.cache, "agent");
await bundleAgent(agentBundle);
const pool = await openDiskPool({ layout, poolSizeGb: 60, freeFloorBytes: 2 * 1024 ** 3, isRoot, logger: silentLogger });
const images = openImageStore({
  layout,
  pool,
  definitions: path.join(ROOT, "images"),
  mirror: DEFAULT_MIRROR,
  securityMirror: DEFAULT_SECURITY_MIRROR,
  isRoot,
  logger: silentLogger,
});
let printedMs = 0;
const done = await provision({
  layout,
  images,
  imageNames,
  agentBundle,
  overlayDir: path.join(ROOT, "packages/agent/guest"),
  onProgress: ({ step, fraction, detail }) => {
    const now = performance.now();
    if (fraction !== 1 && now - printedMs < 1000) return;
    printedMs = now;
    console.log(`${((now - started) / 1000).toFixed(1)} s  ${step}  ${Math.round((fraction ?? 0) * 100)} %  ${detail ?? ""}`);
  },
});
console.log(done.system);
for (const image of done.images) console.log(image.name, await images.disk(image, 100));
console.log(`${((performance.now() - started) / 1000).toFixed(1)} s in all`);
