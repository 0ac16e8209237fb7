/**
 * What pools need of sprites, templates and commands. The composition gives it; tests give a
 * simulated one.
 */
import type { SpriteView } from "../sprite/index.ts";
import type { SpareRest } from "./pool.ts";

/** A spare as the store knows it. */
export interface SpareRecord {
  spriteId: string;
  poolId: string;
  templateVersion: number;
  state: "filling" | "ready";
  sinceMs: number;
}

export type SpareKey = Pick<SpareRecord, "spriteId" | "poolId">;

export interface PoolSprites {
  /** The template's current version; undefined when there is no such template. */
  currentVersion(organizationId: string, templateName: string): number | undefined;
  /** Makes a sprite that no list shows and no name finds. Durable when it resolves. */
  createSpare(
    spare: { spriteId: string; poolId: string; organizationId: string; templateName: string; templateVersion: number },
    options: { signal: AbortSignal },
  ): Promise<void>;
  /** Runs a command in a spare; resolves with the end of its output when it failed, with undefined when it ended with 0. */
  runSetup(spare: SpareKey, argv: string[], options: { signal: AbortSignal }): Promise<{ problem: string } | undefined>;
  /** Wakes the spare once, so that its identity is its own, and puts it to rest. */
  settle(spare: SpareKey, rest: SpareRest, options: { signal: AbortSignal }): Promise<void>;
  /** Whether the spare is there and can be claimed. */
  isSound(spriteId: string): boolean;
  /** Gives the spare to its new owner, together with `record` in one transaction. Throws `sprite_name_taken`; then nothing changed. */
  claim(spriteId: string, claim: { name: string; labels: string[]; environment: Record<string, string> }, record: () => void): SpriteView;
  view(organizationId: string, spriteName: string): SpriteView;
  /** Frees the spare. Missing is fine. */
  discard(spriteId: string): Promise<void>;
}
