/**
 * One running exec session: what clients and other features do with a command in a guest
 * (docs/spec/exec.md). Its follower talks with the guest, its log keeps the output.
 *
 * Invariants: it ends once; the end is visible only after readers can see the last output byte;
 * holds on the sprite are released by the end.
 */
import { ignore, type Logger, sleep } from "@sprited/base";
import type { TerminalSize } from "@sprited/protocol/guest";
import type { SessionStream } from "../guest/index.ts";
import type { Activities, ActivityKind, GuestLife, Hold } from "../sprite/index.ts";
import type { AttachFrom, Attachment, ExecSession, KeptLog, LogPiece, LogQuery, SessionEnd, SessionOwner } from "./exec.ts";
import { Follower } from "./follower.ts";
import { InputLedger, type InputOf, type InputStore, NAMELESS } from "./input-ledger.ts";
import { InputQueue } from "./input-queue.ts";
import { queryLog, type SessionLog } from "./log/index.ts";

import { type Picture, ScreenKeeper } from "./screen-keeper.ts";
import { TerminalWindows } from "./terminal-windows.ts";

/** Between `TERM` and `KILL` for a session whose run-on time is over, ms. */
const KILL_AFTER_MS = 5_000;
/** How long the place of a client that vanished is kept, ms (EXEC-17). */
export const LOST_PLACE_MS = 10_000;

/** What is known of a session from its beginning on. */
export interface SessionFacts {
  id: string;
  /** Its id in the guest, where that is another. */
  guestId?: string | undefined;
  spriteId: string;
  owner: SessionOwner;
  command: string;
  argv: readonly string[];
  workdir: string;
  /** The terminal's size; undefined without terminal. */
  size: TerminalSize | undefined;
  createdAtMs: number;
  runAfterDisconnectMs: number | undefined;
  /** Key under which it was started, with the hash of the request. */
  start?: { key: string; hash: string } | undefined;
}

export function guestIdOf(facts: Pick<SessionFacts, "id" | "guestId">): string {
  return facts.guestId ?? facts.id;
}

export interface SessionOptions {
  facts: SessionFacts;
  life: GuestLife;
  log: SessionLog;
  /** False for a session of an earlier daemon: how much input was taken is asked of the guest. */
  inputKnown: boolean;
  /** Where it is noted whose input is whose; undefined: nowhere. */
  inputStore: InputStore | undefined;
  activities: Activities;
  /** Wakes the sprite; nothing waits for it. */
  wake(): void;
  /** The terminal has another size. */
  onResize(size: TerminalSize): void;
  /** Called once, at the end: records it. A job's end is shown only when this has resolved. */
  onEnd(end: SessionEnd): Promise<void>;
  logger: Logger;
}

const ACTIVITY_OF: Record<SessionOwner, ActivityKind> = { session: "session", job: "job", proxy: "connection" };

export class Session implements ExecSession {
  readonly #options: SessionOptions;
  readonly #input: InputQueue;
  readonly #follower: Follower;
  readonly #windows: TerminalWindows | undefined;
  readonly #screen: ScreenKeeper | undefined;
  readonly #ended = Promise.withResolvers<SessionEnd>();
  #end: SessionEnd | undefined;
  #endedAtMs: number | undefined;
  #lastOutputAtMs: number;
  #clients = 0;
  #hold: Hold | undefined;
  #runOn: AbortController | undefined;

  constructor(options: SessionOptions) {
    const { facts, life, log, logger } = options;
    this.#options = options;
    this.#input = new InputQueue({ ledger: new InputLedger(options.inputStore), known: options.inputKnown });
    this.#windows = facts.size && new TerminalWindows(facts.size);
    this.#screen = facts.size && new ScreenKeeper(log, facts.size);
    this.#lastOutputAtMs = facts.createdAtMs;
    this.#follower = new Follower({ id: guestIdOf(facts), life, log, input: this.#input, logger, onOutput: () => this.#outputCame() });
    if (facts.owner === "job") this.#takeHold();
  }

  get id(): string {
    return this.#options.facts.id;
  }
  get guestId(): string {
    return guestIdOf(this.#options.facts);
  }
  /** Of the memory in which it runs. */
  get lifeId(): string {
    return this.#options.life.id;
  }
  get spriteId(): string {
    return this.#options.facts.spriteId;
  }
  get owner(): SessionOwner {
    return this.#options.facts.owner;
  }
  get command(): string {
    return this.#options.facts.command;
  }
  get argv(): readonly string[] {
    return this.#options.facts.argv;
  }
  get workdir(): string {
    return this.#options.facts.workdir;
  }
  get tty(): boolean {
    return this.#windows !== undefined;
  }
  get size(): TerminalSize | undefined {
    return this.#windows?.size;
  }
  get createdAtMs(): number {
    return this.#options.facts.createdAtMs;
  }
  get endedAtMs(): number | undefined {
    return this.#endedAtMs;
  }
  get lastOutputAtMs(): number {
    return this.#lastOutputAtMs;
  }
  get clients(): number {
    return this.#clients;
  }
  get outputOffsets(): { stdout: number; stderr: number } {
    return this.#options.log.offsets;
  }
  get kept(): KeptLog {
    const { start, end, startOffsets } = this.#options.log;
    return { start, end, startOffsets };
  }
  /** Bytes of input the command took, of all clients. */
  get inputTaken(): number {
    return this.#input.takenBytes;
  }
  /** Whether the guest has the command for certain; after a restart of the daemon that is known with its first word. */
  get isBegun(): boolean {
    return this.#input.isKnown;
  }
  get inputKnown(): Promise<void> {
    return this.#input.known;
  }
  get end(): SessionEnd | undefined {
    return this.#end;
  }
  get ended(): Promise<SessionEnd> {
    return this.#ended.promise;
  }

  /** Follows the command to its end: from the stream on which it was started, or by asking the guest. Called once. */
  follow(first: SessionStream | undefined): void {
    void this.#follower.follow(first).then(
      (end) => this.#finish(end),
      async (error: unknown) => {
        this.#options.logger.error({ event: "exec.follow", sessionId: this.id, err: error }, "session lost");
        await this.#finish({ kind: "lost", code: "internal", reason: "the daemon lost the session" });
      },
    );
  }

  /** The daemon was restarted: its clients are as good as vanished (EXEC-11, EXEC-17). */
  clientsLost(): void {
    if (this.owner !== "job") this.#options.log.read({ from: "start", holdsBack: true }).close({ keepMs: LOST_PLACE_MS });
    if (this.#clients === 0) this.#startRunOn();
  }

  /** Lets go; the command runs on in the guest. */
  detach(): void {
    this.#runOn?.abort();
    this.#follower.stop();
  }

  /** It could not be followed from its beginning: its outcome is not known. */
  async lose(end: SessionEnd): Promise<void> {
    this.detach();
    await this.#finish(end);
  }

  /** Ends it here with `end`, which is not recorded; what it wrote goes away. */
  async abandon(end: SessionEnd): Promise<void> {
    this.detach();
    this.#input.abandon();
    await this.#options.log.discard();
    if (!this.#end) this.#settle(end);
  }

  inputOf(client: string | undefined): InputOf {
    return this.#input.of(client ?? NAMELESS);
  }

  onInputTaken(listener: () => void): () => void {
    return this.#input.onTaken(listener);
  }

  attach(options: { from?: AttachFrom | undefined; client?: string | undefined } = {}): Attachment {
    const reader = this.#options.log.read({ from: options.from ?? "start", holdsBack: this.owner !== "job" && !this.#end });
    const client = {};
    this.#clients += 1;
    this.#runOn?.abort();
    this.#runOn = undefined;
    this.#takeHold();
    this.#wakeUnlessLinked();
    let open = true;
    let isLost = false;
    return {
      position: reader.position,
      output: reader.pieces,
      ended: this.ended,
      write: async (data) => {
        if (!open || this.#input.ended) return;
        this.#resized(this.#windows?.active(client));
        this.#options.activities.touch(this.spriteId);
        this.#wakeUnlessLinked();
        if (!this.#input.isKnown) await this.#input.known;
        // A client that vanished meanwhile sends again what it was not told of.
        if (!isLost && this.#input.push(data, options.client ?? NAMELESS)) await this.#input.room();
      },
      endInput: () => {
        if (open && this.#input.end()) this.#wakeUnlessLinked();
      },
      resize: (size) => {
        if (open) this.#resized(this.#windows?.resize(client, size));
      },
      confirm: (position) => {
        if (open) this.#options.log.confirm?.(position);
      },
      close: ({ lost } = {}) => {
        if (!open) return;
        open = false;
        isLost = lost ?? false;
        reader.close(lost ? { keepMs: LOST_PLACE_MS } : {});
        this.#resized(this.#windows?.leave(client));
        this.#clients -= 1;
        if (this.#clients > 0) return;
        if (this.owner !== "job") this.#releaseHold();
        this.#startRunOn();
      },
    };
  }

  readLog(query: LogQuery): AsyncIterable<LogPiece> {
    return queryLog(this.#options.log, query);
  }

  async screen(): Promise<Picture | undefined> {
    return await this.#screen?.picture();
  }

  signal(name: string): void {
    if (this.#end) return;
    this.#options.activities.touch(this.spriteId);
    this.#follower.signal(name.replace(/^SIG/, ""));
    this.#wakeUnlessLinked();
  }

  #outputCame(): void {
    this.#lastOutputAtMs = Date.now();
    this.#screen?.outputCame();
    if (this.#clients === 0) this.#options.activities.touch(this.spriteId);
  }

  #resized(size: TerminalSize | undefined): void {
    if (!size) return;
    this.#follower.resize(size);
    this.#screen?.resize(size);
    this.#options.onResize(size);
  }

  #wakeUnlessLinked(): void {
    if (!this.#follower.isLinked && !this.#end) this.#options.wake();
  }

  #takeHold(): void {
    if (this.#end) return;
    this.#hold ??= this.#options.activities.hold(this.spriteId, ACTIVITY_OF[this.owner], this.id);
  }

  #releaseHold(): void {
    this.#hold?.release();
    this.#hold = undefined;
  }

  async #finish(end: SessionEnd): Promise<void> {
    const { log, onEnd, logger } = this.#options;
    if (this.#end) return;
    this.#runOn?.abort();
    this.#input.abandon();
    await log.close();
    this.#endedAtMs = Date.now();
    const recorded = onEnd(end).catch((error: unknown) =>
      logger.error({ event: "exec.end", sessionId: this.id, err: error }, "a session's end could not be recorded"),
    );
    if (this.owner === "job") await recorded;
    this.#settle(end);
  }

  #settle(end: SessionEnd): void {
    this.#endedAtMs ??= Date.now();
    this.#end = end;
    this.#releaseHold();
    this.#screen?.dispose();
    this.#ended.resolve(end);
  }

  /** EXEC-7: a command without clients is ended when its run-on time is over. It does not wake a sprite for that. */
  #startRunOn(): void {
    const limitMs = this.#options.facts.runAfterDisconnectMs;
    if (limitMs === undefined || this.#end) return;
    const controller = new AbortController();
    this.#runOn = controller;
    void (async () => {
      await sleep(limitMs, { signal: controller.signal });
      this.#follower.signal("TERM");
      await sleep(KILL_AFTER_MS, { signal: controller.signal });
      this.#follower.signal("KILL");
    })().catch(ignore("a client came back or the command ended"));
  }
}
