/** When sprites rest, how many run and how many start: the idle watch and the admission of one host, over all its sprites. */
import type { Logger } from "@sprited/base";
import type { Activities } from "./activity.ts";
import { Admission, type AdmissionSettings } from "./admission.ts";
import { IdleWatch, type IdleSettings } from "./idle.ts";
import { incarnationOf } from "./lifecycle.ts";
import type { Entry } from "./registry.ts";
import { StartTurns } from "./start-turns.ts";

export interface RestSettings {
  idle: IdleSettings;
  /** Undefined: every machine is admitted. */
  admission?: AdmissionSettings | undefined;
  /** Machines that start at the same time. Undefined: any number. */
  startsParallel?: number | undefined;
}

/** Sprites never rest by themselves and all may run. */
export const NO_REST: RestSettings = { idle: { idleMs: 0, hibernateAfterMs: 0 } };

export interface SpriteRestOptions {
  settings: RestSettings;
  entries(): Entry[];
  activities: Activities;
  logger: Logger;
}

export class SpriteRest {
  readonly #options: SpriteRestOptions;
  /** Without spares of pools: those rest as their pool says. */
  readonly #entries: () => Entry[];
  readonly #watch: IdleWatch;
  readonly #admission: Admission | undefined;
  readonly #turns: StartTurns | undefined;

  constructor(options: SpriteRestOptions) {
    const { settings, entries, activities, logger } = options;
    this.#options = options;
    this.#entries = () => entries().filter(({ sprite }) => sprite.poolId === undefined);
    this.#watch = new IdleWatch({
      entries: () => this.#entries().map(({ sprite, driver }) => ({ id: sprite.id, idleMs: idleMsOf(sprite.idleSeconds), driver })),
      activities,
      settings: settings.idle,
      logger,
      nowMs: Date.now,
    });
    this.#admission =
      settings.admission &&
      new Admission({
        settings: settings.admission,
        machinesMib: () =>
          entries().flatMap(({ sprite, driver }) => (incarnationOf(driver.state) === undefined ? [] : [sprite.config.memoryMib])),
        makeRoom: () => this.#makeRoom(),
        logger,
      });
    this.#turns = settings.startsParallel === undefined ? undefined : new StartTurns({ parallel: settings.startsParallel, logger });
  }

  /** From now on idle sprites fall asleep. */
  start(): void {
    this.#watch.start();
  }

  async close(): Promise<void> {
    await this.#watch.close();
  }

  /** A place for one more machine of a sprite. Throws `host_memory_full`. */
  async admit(entry: Entry, signal: AbortSignal): Promise<Disposable | undefined> {
    return await this.#admission?.acquire(entry.sprite.config.memoryMib, { signal });
  }

  /** A turn to start a machine. */
  async startTurn(signal: AbortSignal): Promise<Disposable | undefined> {
    return await this.#turns?.take({ signal });
  }

  /** Puts the sprite to sleep that was used least lately: a paused one, else one that nothing holds awake. */
  async #makeRoom(): Promise<boolean> {
    const { activities, logger } = this.#options;
    const isFree = ({ sprite }: Entry): boolean => activities.holders(sprite.id).length === 0;
    const lastMs = ({ sprite }: Entry): number => activities.lastActiveMs(sprite.id) ?? 0;
    const candidates = (kind: "paused" | "running"): Entry[] =>
      this.#entries()
        .filter((entry) => entry.driver.state.kind === kind && isFree(entry) && entry.sprite.idleSeconds !== 0)
        .sort((a, b) => lastMs(a) - lastMs(b));
    const chosen = candidates("paused")[0] ?? candidates("running").find((entry) => Date.now() - lastMs(entry) > RECENT_MS);
    if (!chosen) return false;
    await chosen.driver.sleepIfIdle({ depth: "hibernated", isIdle: () => isFree(chosen) }).catch((error: unknown) => {
      logger.warn(
        { event: "sprite.make_room", outcome: "failed", spriteId: chosen.sprite.id, err: error },
        "could not put the sprite to sleep",
      );
    });
    return incarnationOf(chosen.driver.state) === undefined;
  }
}

/** A sprite used this lately is not put to sleep for another, ms: its user is about to go on. */
const RECENT_MS = 1_000;

function idleMsOf(seconds: number | undefined): number | undefined {
  return seconds === undefined ? undefined : seconds * 1000;
}
