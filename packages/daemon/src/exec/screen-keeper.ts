/**
 * Keeps a terminal's picture from its log (EXEC-19): nothing is done while nobody wants it, except
 * that a long log is followed now and then, so that modes set long ago are not forgotten.
 *
 * Invariants: one feeding at a time; at most `REPLAY_BYTES_MAX` are fed at once, the newest ones;
 * the picture is that of the output before `position`, at the sizes the terminal had.
 */
import type { TerminalSize } from "@sprited/protocol/guest";
import { positionOf, type ReadableLog } from "./log/index.ts";
import { createScreen, type Screen } from "./screen.ts";

/** Most output that is drawn at once, bytes; what is older has scrolled away. */
const REPLAY_BYTES_MAX = 4 * 1024 * 1024;
/** A log that has grown so much since is followed without being asked, bytes. */
const FOLLOW_BYTES = 2 * 1024 * 1024;
/** Least time between two such followings, ms: a flood must not cost more. */
const FOLLOW_EVERY_MS = 10_000;
/** Lines kept above the screen. */
const SCROLLBACK_LINES = 1_000;
/** Changes of size that are remembered until they are drawn. */
const RESIZES_MAX = 32;

export interface Picture {
  /** Log position of the first byte that it does not show. */
  position: number;
  data: Uint8Array;
}

export class ScreenKeeper {
  readonly #log: ReadableLog;
  #screen: Screen | undefined;
  #size: TerminalSize;
  #resizes: { position: number; size: TerminalSize }[] = [];
  #position = 0;
  #feeding: Promise<unknown> = Promise.resolve();
  #followedMs = -Infinity;

  constructor(log: ReadableLog, size: TerminalSize) {
    this.#log = log;
    this.#size = size;
  }

  /** The terminal has a new size from the log's present end on. */
  resize(size: TerminalSize): void {
    this.#resizes.push({ position: positionOf(this.#log.offsets), size });
    if (this.#resizes.length > RESIZES_MAX) this.#resizes.shift();
  }

  /** Output came: a long one is followed now and then. */
  outputCame(): void {
    if (this.#log.end - this.#position < FOLLOW_BYTES || performance.now() - this.#followedMs < FOLLOW_EVERY_MS) return;
    this.#followedMs = performance.now();
    void this.#fed().catch(() => this.dispose());
  }

  /** The picture of everything that readers can see now. */
  async picture(): Promise<Picture> {
    return await this.#fed();
  }

  dispose(): void {
    this.#screen?.dispose();
    this.#screen = undefined;
    this.#position = 0;
  }

  #fed(): Promise<Picture> {
    const picture = this.#feeding.then(
      () => this.#feed(),
      () => this.#feed(),
    );
    this.#feeding = picture;
    return picture;
  }

  async #feed(): Promise<Picture> {
    const screen = (this.#screen ??= createScreen({ ...this.#size, scrollbackLines: SCROLLBACK_LINES }));
    const end = this.#log.end;
    const position = Math.max(this.#position, end - REPLAY_BYTES_MAX, this.#log.start);
    const reader = this.#log.read({ from: { position }, holdsBack: false, follow: false });
    try {
      this.#position = position;
      for await (const piece of reader.pieces) {
        this.#applyResizes(screen, piece.position);
        if (piece.kind === "output") await screen.write(piece.data);
        this.#position = piece.position + (piece.kind === "output" ? piece.data.length : piece.bytes);
        if (this.#position >= end) break;
      }
    } finally {
      reader.close();
    }
    this.#applyResizes(screen, this.#position);
    return { position: this.#position, data: screen.serialize() };
  }

  #applyResizes(screen: Screen, position: number): void {
    while (this.#resizes[0] && this.#resizes[0].position <= position) {
      this.#size = this.#resizes[0].size;
      this.#resizes.shift();
      screen.resize(this.#size);
    }
  }
}
