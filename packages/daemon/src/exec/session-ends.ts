/** Ends of sessions whose outcome is not known, and the codes of those that came with their memory's end. */
import type { SessionEnd } from "./exec.ts";

/** Codes of ends after which the guest has nothing to forget. */
export const LIFE_ENDS: ReadonlySet<string> = new Set(["vm_lost", "sprite_stopped", "sprite_restored", "sprite_deleted"]);
export const START_UNKNOWN: SessionEnd = {
  kind: "lost",
  code: "guest_unresponsive",
  reason: "it is not known whether the command was started",
};
export const FORGOTTEN: SessionEnd = { kind: "lost", code: "session_not_found", reason: "the session was removed" };
export const SPRITE_DELETED: SessionEnd = { kind: "lost", code: "sprite_deleted", reason: "the sprite was deleted" };
export const LOST_MEANWHILE: SessionEnd = { kind: "lost", code: "vm_lost", reason: "the sprite's machine ended while the daemon was away" };
