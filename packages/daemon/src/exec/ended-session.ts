/** A session that ended and is still kept: its record and its log, to be read (EXEC-14). */
import type { Logger } from "@sprited/base";
import type { TerminalSize } from "@sprited/protocol/guest";
import type { SessionEndRecord, SessionRecord } from "../store/index.ts";
import type { AttachFrom, Attachment, ExecSession, KeptLog, LogPiece, LogQuery, SessionEnd } from "./exec.ts";
import { type InputOf, type InputRecord, NAMELESS, settle } from "./input-ledger.ts";
import { queryLog, StoredLog } from "./log/index.ts";

import { ScreenKeeper } from "./screen-keeper.ts";

export class EndedSession implements ExecSession {
  readonly inputKnown = Promise.resolve();
  readonly clients = 0;
  readonly end: SessionEnd;
  readonly ended: Promise<SessionEnd>;
  readonly #record: SessionRecord;
  readonly #end: SessionEndRecord;
  readonly #log: StoredLog;
  readonly #input: () => InputRecord;

  constructor(record: SessionRecord, end: SessionEndRecord, options: { directory: string; input: () => InputRecord; logger: Logger }) {
    this.#record = record;
    this.#end = end;
    this.#input = options.input;
    const { directory, logger } = options;
    this.#log = new StoredLog({ directory, logger, startOffsets: end.startOffsets, offsets: end.offsets });
    const { outcome } = end;
    this.end = outcome.kind === "exit" ? { kind: "exit", exit: { code: outcome.code, signal: outcome.signal } } : outcome;
    this.ended = Promise.resolve(this.end);
  }

  get id(): string {
    return this.#record.id;
  }
  get spriteId(): string {
    return this.#record.spriteId;
  }
  get owner(): ExecSession["owner"] {
    return this.#record.owner;
  }
  get command(): string {
    return this.#record.command;
  }
  get argv(): readonly string[] {
    return this.#record.argv;
  }
  get workdir(): string {
    return this.#record.workdir;
  }
  get tty(): boolean {
    return this.#record.size !== undefined;
  }
  get size(): TerminalSize | undefined {
    return this.#record.size;
  }
  get createdAtMs(): number {
    return this.#record.createdAtMs;
  }
  get endedAtMs(): number {
    return this.#end.endedAtMs;
  }
  get lastOutputAtMs(): number {
    return this.#end.lastOutputAtMs;
  }
  get outputOffsets(): { stdout: number; stderr: number } {
    return this.#log.offsets;
  }
  get kept(): KeptLog {
    return { start: this.#log.start, end: this.#log.end, startOffsets: this.#log.startOffsets };
  }
  inputOf(client: string | undefined): InputOf {
    const { inputTaken } = this.#end;
    return settle(this.#input(), inputTaken, inputTaken).counts.get(client ?? NAMELESS) ?? { accepted: 0, taken: 0 };
  }

  onInputTaken(): () => void {
    return () => {};
  }

  attach(options: { from?: AttachFrom | undefined } = {}): Attachment {
    const reader = this.#log.read({ from: options.from ?? "start", holdsBack: false });
    return {
      position: reader.position,
      output: reader.pieces,
      ended: this.ended,
      write: async () => {},
      endInput: () => {},
      resize: () => {},
      confirm: () => {},
      close: () => reader.close(),
    };
  }

  readLog(query: LogQuery): AsyncIterable<LogPiece> {
    return queryLog(this.#log, query);
  }

  async screen(): Promise<{ position: number; data: Uint8Array } | undefined> {
    if (!this.size) return undefined;
    const keeper = new ScreenKeeper(this.#log, this.size);
    try {
      return await keeper.picture();
    } finally {
      keeper.dispose();
    }
  }

  signal(): void {}
}
