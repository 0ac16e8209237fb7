/**
 * Whose input is whose (EXEC-25). The guest counts all input of a session together; clients count
 * their own. The ledger knows which stretch of the input came from which client, and keeps that on
 * record, so that after a restart the guest's one count says how much of each client's arrived.
 *
 * ```
 * input    |---- one ----|-- two --|---- one ------ …        runs, each from `start` to the next
 *          base                 ^ taken                       counts: what lies before base
 * ```
 *
 * Invariants: a run is on record before any of its bytes can reach the guest; counts on record and
 * the oldest run on record meet without a gap; a session whose clients gave no name has no record.
 */

/** Name under which the input of clients without a name is counted. */
export const NAMELESS = "";
/** Names that are remembered of a session. */
const NAMES_MAX = 1_000;
/** Runs on record that are not needed any more before they are folded into counts. */
const FOLD_AT = 64;

/** Input from `start` on, to the start of the next run, came from this client. */
export interface InputRun {
  start: number;
  client: string;
}

/** Bytes of a client before the oldest run. `at`: offset up to which that was known, to tell old names from new ones. */
export interface InputCount {
  client: string;
  bytes: number;
  at: number;
}

export interface InputRecord {
  counts: readonly InputCount[];
  /** In order of `start`. */
  runs: readonly InputRun[];
}

/** Where the record is kept. Every call throws when it could not be written, and then has changed nothing. */
export interface InputStore {
  load(): InputRecord;
  add(runs: readonly InputRun[]): void;
  /** Replaces counts, and drops names and the runs that begin before `from` or at `to` and beyond. */
  fold(change: { counts: readonly InputCount[]; forgotten: readonly string[]; from: number; to: number }): void;
}

/** A client's input: bytes that are here or beyond, and bytes that the command took. */
export interface InputOf {
  accepted: number;
  taken: number;
}

const NOTHING: InputOf = { accepted: 0, taken: 0 };
const EMPTY: InputRecord = { counts: [], runs: [] };

/** How much of each client's input lies before `received`, and before `taken`. Pure. */
export function settle(record: InputRecord, taken: number, received: number): { counts: Map<string, InputOf>; runs: InputRun[] } {
  // What was never sent to the guest is gone.
  const runs = record.runs.length > 0 ? record.runs.filter(({ start }) => start < received) : [{ start: 0, client: NAMELESS }];
  const oldest = [...record.counts].sort((a, b) => a.at - b.at);
  const counts = new Map(oldest.map(({ client, bytes }) => [client, { accepted: bytes, taken: bytes }]));
  for (const [index, { start, client }] of runs.entries()) {
    const length = Math.max(0, (runs[index + 1]?.start ?? received) - start);
    const before = counts.get(client) ?? NOTHING;
    counts.delete(client);
    counts.set(client, { accepted: before.accepted + length, taken: before.taken + Math.min(length, Math.max(0, taken - start)) });
  }
  return { counts, runs };
}

export class InputLedger {
  readonly #store: InputStore | undefined;
  /** By the time of their last input. */
  #counts = new Map<string, InputOf>();
  /** From the one that the guest takes from now on; the last one is open. */
  #runs: InputRun[] = [{ start: 0, client: NAMELESS }];
  #taken = 0;
  #end = 0;
  /** Whether anything is on record. */
  #isKept = false;
  /** Runs on record that lie before `#runs`. */
  #behind = 0;
  /** Clients whose counts on record are behind. */
  readonly #stale = new Set<string>();
  /** The record has runs of input that never reached the guest. */
  #hasLostRuns = false;

  /** Without a store nothing outlives the daemon. */
  constructor(store?: InputStore) {
    this.#store = store;
  }

  /** Goes on after a restart with what the guest says of the whole input. Throws when the record cannot be read. */
  resume(taken: number, received: number): void {
    const record = this.#store?.load() ?? EMPTY;
    const { counts, runs } = settle(record, taken, received);
    this.#counts = counts;
    this.#runs = runs;
    this.#taken = taken;
    this.#end = received;
    this.#isKept = record.runs.length > 0;
    this.#hasLostRuns = this.#isKept;
    this.#dropTaken();
  }

  /** Takes note of `bytes` more input of a client. Throws what the store throws, and then has not. */
  accept(client: string, bytes: number): void {
    if (this.#hasLostRuns) this.#fold([]);
    if (this.#runs.at(-1)?.client !== client) this.#pass(client);
    const before = this.of(client);
    this.#counts.delete(client);
    this.#counts.set(client, { accepted: before.accepted + bytes, taken: before.taken });
    this.#end += bytes;
  }

  /** The command took everything before `offset`. */
  took(offset: number): void {
    for (const [index, { start, client }] of this.#runs.entries()) {
      if (start >= offset) break;
      const bytes = Math.min(offset, this.#runs[index + 1]?.start ?? offset) - Math.max(start, this.#taken);
      const before = this.of(client);
      if (bytes > 0) this.#counts.set(client, { accepted: before.accepted, taken: before.taken + bytes });
    }
    this.#taken = offset;
    this.#dropTaken();
  }

  of(client: string): InputOf {
    return this.#counts.get(client) ?? NOTHING;
  }

  /** From now on the input comes from another client. */
  #pass(client: string): void {
    if (this.#behind >= FOLD_AT) this.#fold([]);
    if (!this.#counts.has(client)) this.#makeRoom();
    const run = { start: this.#end, client };
    const first = this.#isKept || this.#end === 0 ? [] : this.#runs;
    this.#store?.add([...first, run]);
    if (this.#end === 0) this.#runs = [];
    this.#runs.push(run);
    this.#isKept = true;
    this.#dropTaken();
  }

  /** Forgets the client that is silent for longest and owes nothing, when there are too many. */
  #makeRoom(): void {
    if (this.#counts.size < NAMES_MAX) return;
    const last = this.#runs.at(-1)?.client;
    for (const [client, { accepted, taken }] of this.#counts) {
      if (client === NAMELESS || client === last || accepted > taken) continue;
      this.#fold([client]);
      this.#counts.delete(client);
      return;
    }
  }

  #dropTaken(): void {
    while ((this.#runs[1]?.start ?? Infinity) <= this.#taken) {
      const [gone] = this.#runs.splice(0, 1);
      if (!gone || !this.#isKept) continue;
      this.#behind += 1;
      this.#stale.add(gone.client);
    }
  }

  /** Puts counts on record in the place of runs that are over. */
  #fold(forgotten: string[]): void {
    const [oldest = { start: this.#end, client: undefined }] = this.#runs;
    const counts = [...this.#stale]
      .filter((client) => !forgotten.includes(client))
      .map((client) => {
        const sinceBase = client === oldest.client ? Math.max(0, this.#taken - oldest.start) : 0;
        return { client, bytes: this.of(client).taken - sinceBase, at: oldest.start };
      });
    this.#store?.fold({ counts, forgotten, from: oldest.start, to: this.#end });
    this.#hasLostRuns = false;
    this.#stale.clear();
    this.#behind = 0;
  }
}
