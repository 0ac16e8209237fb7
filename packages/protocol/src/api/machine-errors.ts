/** What every call that needs a sprite's machine can answer. */
import type { ErrorCode } from "../errors.ts";

export const OF_SPRITE = ["sprite_not_found", "token_name_prefix"] as const satisfies readonly ErrorCode[];

/** Calls that wake the sprite. */
export const OF_MACHINE = [
  ...OF_SPRITE,
  "sprite_failed",
  "sprite_deleting",
  "vm_failed_to_start",
  "vm_lost",
  "guest_unresponsive",
  "guest_protocol",
  "guest_refused_start",
  "guest_failed",
  "guest_linux_failed",
  "operation_timeout",
  "busy",
  "host_memory_full",
  "concurrent_sprite_limit_exceeded",
  "disk_full",
  "disk_damaged",
  "image_damaged",
] as const satisfies readonly ErrorCode[];
