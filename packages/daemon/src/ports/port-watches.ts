/**
 * Which ports sprites listen on, for everyone who wants to know (PORT-1..5). One watch per sprite
 * however many listen; none while nobody does.
 *
 * Invariants: nothing here wakes a sprite or keeps it awake; a listener hears of every change once,
 * in order, against the list it was given; when the guest's memory is lost its ports are closed.
 */
import { ignore, type Logger, sleep } from "@sprited/base";
import type { GuestListener, PortsLine } from "@sprited/protocol/guest";
import { GuestError } from "../guest/index.ts";
import type { GuestLife } from "../sprite/index.ts";

/** Pause before a broken watch is begun anew, ms; doubles up to the limit. */
const RETRY_PAUSE_MS = 100;
const RETRY_PAUSE_MAX_MS = 5_000;

/** What a watch needs of the sprite hub. */
export interface WatchedSprites {
  /** The sprite's life, after waking it if need be. */
  wakeLife(spriteId: string, options: { signal?: AbortSignal | undefined }): Promise<GuestLife>;
  /** Calls back on every change of any sprite. Returns how to stop. */
  subscribe(listener: (view: { id: string; status: string }, change: "changed" | "deleted") => void): () => void;
}

export interface PortListener {
  /** What listens now; once, first. */
  listed(ports: readonly GuestListener[]): void;
  opened(port: GuestListener): void;
  closed(port: GuestListener): void;
}

export class PortWatches {
  readonly #sprites: WatchedSprites;
  readonly #logger: Logger;
  readonly #watches = new Map<string, SpriteWatch>();

  constructor(options: { sprites: WatchedSprites; logger: Logger }) {
    this.#sprites = options.sprites;
    this.#logger = options.logger;
  }

  /** Watches an awake sprite; a sleeping one is woken by the first who watches. Returns how to stop. */
  watch(spriteId: string, listener: PortListener): () => void {
    let watch = this.#watches.get(spriteId);
    if (!watch) {
      watch = new SpriteWatch(spriteId, this.#sprites, this.#logger);
      this.#watches.set(spriteId, watch);
    }
    const joined = watch;
    joined.add(listener);
    return () => {
      joined.remove(listener);
      if (!joined.isWatched && this.#watches.get(spriteId) === joined) this.#watches.delete(spriteId);
    };
  }
}

class SpriteWatch {
  readonly #spriteId: string;
  readonly #sprites: WatchedSprites;
  readonly #logger: Logger;
  readonly #over = new AbortController();
  readonly #listeners = new Set<PortListener>();
  #ports = new Map<string, GuestListener>();
  #isListed = false;

  constructor(spriteId: string, sprites: WatchedSprites, logger: Logger) {
    this.#spriteId = spriteId;
    this.#sprites = sprites;
    this.#logger = logger;
    this.#run(this.#over.signal).catch((error: unknown) => {
      if (!this.#over.signal.aborted) logger.warn({ event: "ports.watch", spriteId, err: error }, "a watch of ports ended");
    });
  }

  get isWatched(): boolean {
    return this.#listeners.size > 0;
  }

  add(listener: PortListener): void {
    this.#listeners.add(listener);
    if (this.#isListed) listener.listed([...this.#ports.values()]);
  }

  remove(listener: PortListener): void {
    this.#listeners.delete(listener);
    if (this.#listeners.size === 0) this.#over.abort();
  }

  async #run(signal: AbortSignal): Promise<void> {
    for (;;) {
      const life = await this.#sprites.wakeLife(this.#spriteId, { signal });
      const lost = new AbortController();
      void life.ended.then(() => lost.abort());
      await this.#follow(life, AbortSignal.any([signal, lost.signal]));
      signal.throwIfAborted();
      this.#apply({ opened: [], closed: [] }, { isWhole: true });
      await this.#untilRunning(signal);
    }
  }

  /** Follows one life to its end, over as many links as it takes. */
  async #follow(life: GuestLife, signal: AbortSignal): Promise<void> {
    let pauseMs = RETRY_PAUSE_MS;
    while (!signal.aborted) {
      try {
        const link = await life.link({ signal });
        let isWhole = true;
        for await (const line of link.watchPorts({ signal })) {
          this.#apply(line, { isWhole });
          isWhole = false;
          pauseMs = RETRY_PAUSE_MS;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof GuestError && error.code === "guest_protocol") throw error;
        this.#logger.debug({ event: "ports.watch", spriteId: this.#spriteId, err: error }, "no link yet");
      }
      await sleep(pauseMs, { signal }).catch(ignore("looked at above"));
      pauseMs = Math.min(2 * pauseMs, RETRY_PAUSE_MAX_MS);
    }
  }

  /** Takes a line over; a whole one says everything that listens. */
  #apply(line: PortsLine, { isWhole }: { isWhole: boolean }): void {
    const next = isWhole ? new Map<string, GuestListener>() : new Map(this.#ports);
    for (const port of line.closed) next.delete(keyOf(port));
    for (const port of line.opened) next.set(keyOf(port), port);
    const before = this.#ports;
    this.#ports = next;
    if (!this.#isListed) {
      this.#isListed = true;
      for (const listener of this.#listeners) listener.listed([...next.values()]);
      return;
    }
    for (const [key, port] of before) if (!isSame(port, next.get(key)) || isReopened(line, port)) this.#tell("closed", port);
    for (const [key, port] of next) if (!isSame(port, before.get(key)) || isReopened(line, port)) this.#tell("opened", port);
  }

  #tell(what: "opened" | "closed", port: GuestListener): void {
    for (const listener of this.#listeners) listener[what](port);
  }

  /** Resolves when the sprite runs, as others woke it. */
  async #untilRunning(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const stop = this.#sprites.subscribe(({ id, status }) => {
        if (id !== this.#spriteId || status !== "running") return;
        done();
        resolve();
      });
      const onAbort = (): void => {
        done();
        reject(signal.reason as Error);
      };
      const done = (): void => {
        stop();
        signal.removeEventListener("abort", onAbort);
      };
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }
}

function keyOf({ address, port }: GuestListener): string {
  return `${address} ${port}`;
}

function isSame(one: GuestListener, other: GuestListener | undefined): boolean {
  return other !== undefined && one.pid === other.pid;
}

/** Whether a line closes and opens the same port: another socket of the same process. */
function isReopened(line: PortsLine, port: GuestListener): boolean {
  const key = keyOf(port);
  return line.closed.some((one) => keyOf(one) === key) && line.opened.some((one) => keyOf(one) === key);
}
