export { type DriverOptions } from "./sprite-core.ts";
export { type FileSteps, SpriteDriver } from "./driver.ts";
export type { Replaced, Replacement, ReplacePlace } from "./replace.ts";
export type { SavedMemory, SnapshotOptions, SnapshotSource } from "./still.ts";
