export type { Replaced, Replacement, ReplacePlace, SavedMemory, SnapshotOptions, SnapshotSource } from "./driver/index.ts";
export type { Batches } from "./batches.ts";
export type { Activities, ActivityKind, Hold, Holder } from "./activity.ts";
export type { MachineEvent, WakeKind } from "./machine-event.ts";
export { type GuestLife, isPlacedLife, type LifeEnd, placedLifeId } from "./life.ts";
export type { SpriteState } from "./lifecycle.ts";
export type { SpriteRecords } from "./records.ts";
export type { SpriteDefaults, SpriteLimits, SpriteQuotas } from "./limits.ts";
export { type RestSettings } from "./rest.ts";
export { type RegistryOptions, SpriteRegistry } from "./registry.ts";
export type {
  CreateOptions,
  CreateSprite,
  Sprite,
  SpriteCheck,
  SpriteConfig,
  SpriteOrigin,
  SpritePage,
  Sprites,
  SpriteStatus,
  SpriteView,
  StatusCounts,
  UpdateSprite,
  UrlSettings,
} from "./sprite.ts";
export { placeOfPool } from "./sprite.ts";
