export { reclaim, type Reclaimed, type ReclaimOptions } from "./reclaim.ts";
export { GarbageCollection } from "./gc.ts";
