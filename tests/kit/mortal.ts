/**
 * A program inside this process that can die: everything done in its asynchronous context that the
 * world would notice (files, database, connections, timers) passes here first. At a chosen call it
 * dies as by kill -9 or in a power cut, or the call fails as on a full or broken disk.
 *
 * Invariants: from its death on nothing it does has any effect, no promise of it settles through
 * an effect, and what a kernel closes for a dead process is closed. Code outside of its context
 * (tests, simulated guests) never notices anything.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { EventEmitter } from "node:events";
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import net from "node:net";
import { DatabaseSync, StatementSync } from "node:sqlite";
import type { Duplex } from "node:stream";
import timers from "node:timers/promises";
import type { UnsyncedFiles } from "./unsynced-files.ts";
import { UnsyncedRows } from "./unsynced-rows.ts";

/** What goes wrong, and at which of the effects to come (counted from 1). */
export type Fault =
  /** The program dies: before the effect, after it, or in the middle of what it writes. */
  | { kind: "die"; at: number; how: "before" | "after" | "torn"; isPowerCut: boolean }
  /** `count` effects fail one after another; `torn`: the first of them has written half of its bytes. */
  | { kind: "fail"; at: number; code: "ENOSPC" | "EIO"; torn: boolean; count: number }
  /** Something happens to the world just before the effect. */
  | { kind: "happen"; at: number; what: () => void };

export type Outcome<T> = { kind: "ok"; value: T } | { kind: "failed"; error: unknown } | { kind: "died" };

class DeadError extends Error {
  override readonly name = "DeadError";
}

const context = new AsyncLocalStorage<Mortal>();
const never = new Promise<never>(() => {});
const TRACE_MAX = 400;

export class Mortal {
  isDead = false;
  /** What it did, newest last. */
  readonly trace: string[] = [];
  readonly #death = Promise.withResolvers<void>();
  readonly #sockets = new Set<Duplex>();
  readonly #files = new Set<fs.FileHandle>();
  readonly #underWay = new Set<Promise<unknown>>();
  readonly #databases = new Map<DatabaseSync, UnsyncedRows>();
  /** What of its files a power cut would take; undefined: nothing. */
  readonly files: UnsyncedFiles | undefined;
  /** Its death was the whole host's: what was not flushed is to be lost. */
  isPowerCut = false;
  #fault: Fault | undefined;
  #left = 0;
  #cutsPower = false;

  constructor(files?: UnsyncedFiles) {
    this.files = files;
  }

  /** Runs `work` as part of the program. */
  run<T>(work: () => T): T {
    return context.run(this, work);
  }

  /** What came of a call: the program's death ends every wait. */
  async ask<T>(work: () => Promise<T> | T): Promise<Outcome<T>> {
    if (this.isDead) return { kind: "died" };
    const call = this.run(async () => await work()).then(
      (value): Outcome<T> => (this.isDead ? { kind: "died" } : { kind: "ok", value }),
      (error: unknown): Outcome<T> => (this.isDead ? { kind: "died" } : { kind: "failed", error }),
    );
    return await Promise.race([call, this.#death.promise.then((): Outcome<T> => ({ kind: "died" }))]);
  }

  /** Arms a fault; undefined: no more faults. */
  inject(fault: Fault | undefined): void {
    this.#fault = fault;
    this.#left = fault?.at ?? 0;
  }

  /** Whether the armed fault has not struck yet. */
  get isArmed(): boolean {
    return this.#fault !== undefined && this.#left > 0;
  }

  /** kill -9, or the end of the host's power. */
  die(isPowerCut = false): void {
    if (this.isDead) return;
    this.isDead = true;
    this.isPowerCut = isPowerCut;
    for (const socket of this.#sockets) socket.destroy();
    for (const file of this.#files) void file.close().catch(() => {});
    // Not before the statement that is running now has unwound.
    queueMicrotask(() => {
      for (const [database, rows] of this.#databases) {
        if (!database.isOpen) continue;
        const lose = isPowerCut ? rows.cut() : () => {};
        database.close();
        lose();
      }
      this.#death.resolve();
    });
  }

  /** What becomes of the next effect. */
  step(name: string): "go" | "die" | "die_after" | "die_torn" | NodeJS.ErrnoException {
    this.trace.push(name);
    if (this.trace.length > TRACE_MAX) this.trace.splice(0, TRACE_MAX / 2);
    const fault = this.#fault;
    if (!fault) return "go";
    this.#left -= 1;
    if (this.#left > 0) return "go";
    if (fault.kind === "fail") {
      if (-this.#left >= fault.count) {
        this.#fault = undefined;
        return "go";
      }
      this.trace.push(`  ${fault.code}`);
      return Object.assign(new Error(`${fault.code}: injected, ${name}`), { code: fault.code, errno: fault.code === "EIO" ? -5 : -28 });
    }
    this.#fault = undefined;
    if (fault.kind === "happen") {
      this.trace.push("  (happened)");
      context.exit(fault.what);
      return "go";
    }
    this.trace.push(`  ${fault.isPowerCut ? "power cut" : "died"} ${fault.how}`);
    this.#cutsPower = fault.isPowerCut;
    return fault.how === "before" ? "die" : fault.how === "after" ? "die_after" : "die_torn";
  }

  get tears(): boolean {
    return this.#fault?.kind === "fail" && this.#fault.torn && this.#left === 0;
  }

  /** Resolves when what had begun before the death is over: it counts as done before. */
  async quiet(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
  }

  underWay(work: Promise<unknown>): void {
    this.#underWay.add(work);
    const over = (): void => void this.#underWay.delete(work);
    work.then(over, over);
  }

  /** Closed with the program, as everything it has open. */
  holdSocket(socket: Duplex): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
  }

  holdFile(file: fs.FileHandle): void {
    this.#files.add(file);
    // A file handle is an emitter, though its type does not say so.
    (file as unknown as EventEmitter).once("close", () => this.#files.delete(file));
  }

  holdDatabase(database: DatabaseSync): void {
    if (!this.#databases.has(database)) this.#databases.set(database, new UnsyncedRows(database.location() ?? ""));
  }

  rowsOf(database: DatabaseSync): UnsyncedRows | undefined {
    return this.#databases.get(database);
  }

  /** The death that `step` announced. */
  meetDeath(): void {
    this.die(this.#cutsPower);
  }
}

/** The program that this code is part of. */
export function thisProgram(): Mortal | undefined {
  return context.getStore();
}

/** Runs `work` outside of every program. */
export function outside<T>(work: () => T): T {
  return context.exit(work);
}

/** Passes an effect that is not one of Node's own through the program it belongs to. */
export async function effect<T>(name: string, act: () => Promise<T>, tear?: () => Promise<unknown>): Promise<T> {
  const program = context.getStore();
  if (!program) return await act();
  if (program.isDead) return await never;
  const verdict = program.step(name);
  if (verdict === "go") return await gate(program, act());
  if (verdict instanceof Error) {
    if (program.tears) await tear?.();
    throw verdict;
  }
  if (verdict === "die_after") await act();
  if (verdict === "die_torn") await tear?.();
  program.meetDeath();
  return await never;
}

/** What SQLite makes of an error of the file system below it: SQLITE_FULL, SQLITE_IOERR_FSYNC. */
const SQLITE_ERRORS: Record<string, { errcode: number; errstr: string }> = {
  ENOSPC: { errcode: 13, errstr: "database or disk is full" },
  EIO: { errcode: 1034, errstr: "disk I/O error" },
};

/** An effect of the database. */
function effectNow<T>(name: string, act: () => T): T {
  const program = context.getStore();
  if (!program) return act();
  if (program.isDead) throw new DeadError("dead");
  const verdict = program.step(name);
  if (verdict === "go") return act();
  if (verdict instanceof Error) {
    const { errcode, errstr } = SQLITE_ERRORS[verdict.code ?? ""] as { errcode: number; errstr: string };
    throw Object.assign(new Error(errstr), { code: "ERR_SQLITE_ERROR", errcode, errstr });
  }
  if (verdict === "die_after") act();
  program.meetDeath();
  throw new DeadError("died");
}

async function gate<T>(program: Mortal, result: Promise<T>): Promise<T> {
  program.underWay(result);
  return await alive(program, result);
}

async function alive<T>(program: Mortal, result: Promise<T>): Promise<T> {
  try {
    const value = await result;
    return program.isDead ? await never : value;
  } catch (error) {
    if (program.isDead) return await never;
    throw error;
  }
}

type AnyFunction = (this: unknown, ...parameters: never[]) => unknown;
type Patchable = Record<string, AnyFunction>;

type Act<T> = () => Promise<T>;
/** How an effect on a path changes what a power cut would take. */
type FileEffect = (files: UnsyncedFiles, parameters: unknown[], act: Act<never>) => Promise<unknown>;

const untracked: FileEffect = (_files, _parameters, act) => act();
const makes =
  (at: number): FileEffect =>
  (files, parameters, act) =>
    files.made(String(parameters[at]), act);
const removes: FileEffect = (files, [file, options], act) =>
  files.removed(String(file), { recursive: (options as { recursive?: boolean } | undefined)?.recursive ?? false }, act);

const FILE_EFFECTS: Record<string, FileEffect> = {
  mkdir: makes(0),
  rm: removes,
  rmdir: removes,
  unlink: removes,
  rename: (files, [from, to], act) => files.renamed(String(from), String(to), act),
  copyFile: makes(1),
  symlink: makes(1),
  link: makes(1),
  truncate: (files, [file], act) => files.wrote(String(file), act),
  mkdtemp: untracked,
  chmod: untracked,
  chown: untracked,
};
const synced = async (files: UnsyncedFiles, handle: string, act: Act<never>): Promise<unknown> => {
  const result = await act();
  files.synced(handle);
  return result;
};
const HANDLE_EFFECTS: Record<string, (files: UnsyncedFiles, handle: string, act: Act<never>) => Promise<unknown>> = {
  sync: synced,
  datasync: synced,
  truncate: (files, handle, act) => files.wrote(handle, act),
  chmod: (_files, _handle, act) => act(),
  chown: (_files, _handle, act) => act(),
};
const READS = ["readFile", "readdir", "stat", "lstat", "access", "realpath", "readlink", "statfs"];
const HANDLE_READS = ["read", "readv", "readFile", "stat"];

let isInstalled = false;

/** Makes this process's files, databases, connections and timers pass through `Mortal`; once, for good. */
export async function installMortality(): Promise<void> {
  if (isInstalled) return;
  isInstalled = true;
  await patchFiles();
  patchDatabase();
  patchSockets();
  patchTimers();
  syncBuiltinESMExports();
}

async function patchFiles(): Promise<void> {
  const files = fs as unknown as Patchable;
  await using probe = await fs.open("/dev/null");
  const handles = Object.getPrototypeOf(probe) as Patchable;
  for (const [name, track] of Object.entries(FILE_EFFECTS)) {
    wrapEffect(files, name, {
      describe: (args) => `${name} ${String(args[args.length > 1 && name === "rename" ? 1 : 0])}`,
      track: (unsynced, _this, args, act) => track(unsynced, args, act),
    });
  }
  for (const name of READS) wrapRead(files, name);
  for (const [name, track] of Object.entries(HANDLE_EFFECTS)) {
    wrapEffect(handles, name, {
      describe: () => `file.${name}`,
      track: (unsynced, handle, _args, act) => track(unsynced, pathOfHandle(handle), act),
    });
  }
  for (const name of HANDLE_READS) wrapRead(handles, name);
  for (const [owner, name, at] of [
    [files, "writeFile", 1],
    [files, "appendFile", 1],
    [handles, "write", 0],
    [handles, "writeFile", 0],
    [handles, "appendFile", 0],
  ] as const) {
    const original = owner[name] as AnyFunction;
    owner[name] = function (this: unknown, ...parameters: never[]) {
      const write = (given: unknown[]): Promise<unknown> => original.apply(this, given as never[]) as Promise<unknown>;
      const unsynced = context.getStore()?.files;
      const act = (given: unknown[]): Promise<unknown> => {
        if (!unsynced) return write(given);
        return at === 1 ? unsynced.made(String(given[0]), () => write(given)) : unsynced.wrote(pathOfHandle(this), () => write(given));
      };
      // A write of a part of a buffer says which: half of that part.
      const half = parameters.map((value, index) =>
        index === 2 && at === 0 && typeof value === "number"
          ? value >> 1
          : index === at && typeof parameters[2] !== "number"
            ? halfOf(value)
            : value,
      );
      return effect(
        `${name} ${at === 1 ? String(parameters[0]) : ""}`,
        () => act(parameters),
        () => act(half),
      );
    };
  }
  const open = files["open"] as AnyFunction;
  files["open"] = function (this: unknown, ...parameters: never[]) {
    const program = context.getStore();
    const act = async (): Promise<fs.FileHandle> => {
      const file = (await open.apply(this, parameters)) as fs.FileHandle;
      program?.holdFile(file);
      return file;
    };
    const flags = parameters[1] as unknown;
    const isWrite = typeof flags === "string" ? flags !== "r" : flags !== undefined;
    if (isWrite) return effect(`open ${String(parameters[0])}`, () => program?.files?.made(String(parameters[0]), act) ?? act());
    return program ? (program.isDead ? never : gate(program, act())) : act();
  };
}

function halfOf(value: unknown): unknown {
  if (typeof value === "string") return value.slice(0, value.length / 2);
  return value instanceof Uint8Array ? value.subarray(0, value.length / 2) : value;
}

/** How `/proc` names what a handle is open on. */
function pathOfHandle(handle: unknown): string {
  return `/proc/self/fd/${(handle as fs.FileHandle).fd}`;
}

interface Wrapped {
  describe(parameters: unknown[]): string;
  track(files: UnsyncedFiles, owner: unknown, parameters: unknown[], act: Act<never>): Promise<unknown>;
}

function wrapEffect(owner: Patchable, name: string, { describe, track }: Wrapped): void {
  const original = owner[name] as AnyFunction;
  owner[name] = function (this: unknown, ...parameters: never[]) {
    const unsynced = context.getStore()?.files;
    const act = (): Promise<never> => original.apply(this, parameters) as Promise<never>;
    return effect(describe(parameters), () => (unsynced ? track(unsynced, this, parameters, act) : act()));
  };
}

function wrapRead(owner: Patchable, name: string): void {
  const original = owner[name] as AnyFunction | undefined;
  if (!original) return;
  owner[name] = function (this: unknown, ...parameters: never[]) {
    const program = context.getStore();
    if (!program) return original.apply(this, parameters);
    return program.isDead ? never : gate(program, original.apply(this, parameters) as Promise<unknown>);
  };
}

const WRITES = /^\s*(insert|update|delete|replace|commit|create|alter|drop)/i;

function patchDatabase(): void {
  const databases = DatabaseSync.prototype as unknown as Patchable;
  /** Databases whose next write is not flushed. */
  const unflushing = new WeakSet<DatabaseSync>();
  const databaseOf = new WeakMap<StatementSync, DatabaseSync>();
  const prepare = databases["prepare"] as AnyFunction;
  databases["prepare"] = function (this: unknown, ...parameters: never[]) {
    return aliveNow(() => {
      const statement = prepare.apply(this, parameters) as StatementSync;
      databaseOf.set(statement, this as DatabaseSync);
      return statement;
    });
  };
  const exec = databases["exec"] as AnyFunction;
  databases["exec"] = function (this: unknown, ...parameters: never[]) {
    const sql = parameters[0] as unknown as string;
    const program = context.getStore();
    const database = this as DatabaseSync;
    program?.holdDatabase(database);
    const [, how] = /PRAGMA synchronous = (FULL|NORMAL)/.exec(sql) ?? [];
    if (how !== undefined) unflushing[how === "NORMAL" ? "add" : "delete"](database);
    const act = (): unknown => {
      const result = exec.apply(this, parameters);
      if (WRITES.test(sql)) program?.rowsOf(database)?.flushed();
      return result;
    };
    return WRITES.test(sql) ? effectNow(sql, act) : aliveNow(act);
  };
  const statements = StatementSync.prototype as unknown as Patchable;
  for (const name of ["run", "all", "get"]) {
    const original = statements[name] as AnyFunction;
    statements[name] = function (this: unknown, ...parameters: never[]) {
      const act = (): unknown => {
        const database = databaseOf.get(this as StatementSync);
        const rows = database && context.getStore()?.rowsOf(database);
        if (database && unflushing.has(database)) rows?.unflushed();
        const result = original.apply(this, parameters);
        // In a transaction its commit flushes.
        if (database && !unflushing.has(database) && !database.isTransaction) rows?.flushed();
        return result;
      };
      // A statement of a closed database cannot even say what it was.
      const sql = aliveNow(() => (this as StatementSync).sourceSQL);
      return WRITES.test(sql) ? effectNow(sql.slice(0, 60), act) : aliveNow(() => original.apply(this, parameters));
    };
  }
}

function aliveNow<T>(act: () => T): T {
  if (context.getStore()?.isDead) throw new DeadError("dead");
  return act();
}

function patchSockets(): void {
  const sockets = net as unknown as Patchable;
  const connect = sockets["connect"] as AnyFunction;
  const patched = function (this: unknown, ...parameters: never[]) {
    const program = context.getStore();
    if (program?.isDead) return new net.Socket();
    const socket = connect.apply(this, parameters) as net.Socket;
    program?.holdSocket(socket);
    return socket;
  };
  sockets["connect"] = patched;
  sockets["createConnection"] = patched;
}

function patchTimers(): void {
  const globals = globalThis as unknown as Patchable;
  for (const name of ["setTimeout", "setInterval", "setImmediate"]) {
    const original = globals[name] as AnyFunction;
    const patched = (work: (...parameters: unknown[]) => void, ...rest: never[]): unknown => {
      const program = context.getStore();
      const guarded = program ? (...parameters: unknown[]) => void (program.isDead || work(...parameters)) : work;
      return original.call(globalThis, guarded as never, ...rest);
    };
    globals[name] = Object.assign(patched, original) as AnyFunction;
  }
  const promised = timers as unknown as Patchable;
  const sleep = promised["setTimeout"] as AnyFunction;
  promised["setTimeout"] = function (this: unknown, ...parameters: never[]) {
    const program = context.getStore();
    const slept = sleep.apply(this, parameters) as Promise<unknown>;
    return program ? alive(program, slept) : slept;
  };
}
