/**
 * One life of a guest's memory: from a boot until that memory is lost. Machines (VM runs) come and
 * go within a life: a sprite that sleeps with its memory has no machine and lives on.
 *
 * Whoever follows something that lives in guest memory (a session, a connection) holds a life,
 * never a machine: it waits through sleeps and daemon restarts and hears once when all is lost.
 */
import type { GuestLink } from "../guest/index.ts";
import type { Machine } from "../machine/index.ts";

/** Why a life ended; a `code` of the error registry and a sentence for people. */
export interface LifeEnd {
  code: "vm_lost" | "sprite_stopped" | "sprite_restored" | "sprite_deleted";
  reason: string;
}

export interface GuestLife {
  /** Id of the life; stored, so that a restarted daemon can tell what still lives. The incarnation of its first machine. */
  readonly id: string;
  /** Resolves once, when the memory is gone. Never rejects. */
  readonly ended: Promise<LifeEnd>;
  /**
   * The open link to the guest, dialled anew when the last one broke. Waits while the sprite
   * sleeps and never wakes it. Rejects with `GuestError` when the agent does not answer, with
   * `VmmError` when the life has ended.
   */
  link(options?: { signal?: AbortSignal | undefined }): Promise<GuestLink>;
}

/** The life of a machine that never sleeps: both end together. */
export function lifeOfMachine(machine: Machine): GuestLife {
  return {
    id: machine.incarnation,
    ended: machine.exited.then((exit) => ({
      code: "vm_lost",
      reason: exit.kind === "guest" ? "the sprite's machine was shut down from inside" : "the sprite's machine ended",
    })),
    link: (options) => machine.link(options),
  };
}
