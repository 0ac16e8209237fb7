export { reclaim, type Reclaimed, type ReclaimOptions } from "./reclaim.ts";
