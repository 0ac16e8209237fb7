export { type DriverOptions } from "./sprite-core.ts";
export { SpriteDriver } from "./driver.ts";
export type { Replaced, ReplacePlace, SavedMemory, SnapshotOptions, SnapshotSource } from "./still.ts";
