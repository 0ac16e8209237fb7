/** Builds `minimal` in the home given as argument: a process that a test can kill. */
import path from "node:path";
import { silentLogger } from "@sprited/base";
import { DEFAULT_MIRROR, DEFAULT_SECURITY_MIRROR, homeLayout, openDiskPool, openImageStore } from "@sprited/disk";

const layout = homeLayout(process.argv[2] ?? "");
const pool = await openDiskPool({ layout, poolSizeGb: 6, freeFloorBytes: 0, isRoot: true, logger: silentLogger });
const definitions = path.resolve(import.meta.dirname, "../../images");
const store = openImageStore({
  layout,
  pool,
  definitions,
  mirror: DEFAULT_MIRROR,
  securityMirror: DEFAULT_SECURITY_MIRROR,
  isRoot: true,
  logger: silentLogger,
});
await store.build("minimal", { onProgress: ({ detail }) => console.log(detail) });
