import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { z } from "zod";

/**
 * One daemon per home. The lock is SQLite's write lock on a file of its own: a lock of the
 * kernel that belongs to the open file, so it ends with the process however that ends, and no
 * process id can be mistaken for another's.
 *
 * Invariant: who holds the lock is told by the lock alone; `lock.json` only says to people who it is.
 */

/** Who holds a home. */
export interface LockHolder {
  pid: number;
  /** What it does, for people: `daemon`, `set-up`. */
  role: string;
  /** Address of its API; undefined before it listens. */
  url?: string | undefined;
}

/** Someone else holds the home. */
export class LockedError extends Error {
  override readonly name = "LockedError";
  /** undefined when the holder has not said who it is. */
  readonly holder: LockHolder | undefined;
  constructor(home: string, holder: LockHolder | undefined) {
    const who =
      holder === undefined ? "another process" : `the ${holder.role} with process id ${holder.pid}${holder.url ? ` at ${holder.url}` : ""}`;
    super(`${home} is in use by ${who}. Stop it first, or set SPRITED_HOME (and SPRITED_LISTEN) to run a second one beside it.`);
    this.holder = holder;
  }
}

/** A home that this process holds until `release` or its end. */
export interface HomeLock extends Disposable {
  /** Tells others more about the holder. */
  describe(holder: Omit<LockHolder, "pid">): void;
  release(): void;
}

const holderSchema = z.object({ pid: z.int(), role: z.string(), url: z.string().optional() });

/** Takes the lock at `lockPath` (made with its directory). Throws `LockedError`. */
export function lockHome(lockPath: string, role: string): HomeLock {
  mkdirSync(path.dirname(lockPath), { recursive: true });
  const database = new DatabaseSync(lockPath, { timeout: 0 });
  try {
    // Nothing is ever written, so there is nothing to roll back and no journal to leave behind.
    database.exec("PRAGMA journal_mode = MEMORY; BEGIN IMMEDIATE");
  } catch (error) {
    database.close();
    if (!isBusy(error)) throw error;
    throw new LockedError(path.dirname(lockPath), findHolder(lockPath));
  }
  let held = true;
  const describe = (holder: Omit<LockHolder, "pid">): void => writeHolder(lockPath, { pid: process.pid, ...holder });
  const release = (): void => {
    if (!held) return;
    held = false;
    rmSync(holderPath(lockPath), { force: true });
    database.close();
  };
  describe({ role });
  return { describe, release, [Symbol.dispose]: release };
}

/** Who says to hold the lock at `lockPath`; undefined when nobody does. May be outdated. */
export function findHolder(lockPath: string): LockHolder | undefined {
  try {
    const parsed = holderSchema.safeParse(JSON.parse(readFileSync(holderPath(lockPath), "utf8")));
    return parsed.success ? parsed.data : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function writeHolder(lockPath: string, holder: LockHolder): void {
  const file = holderPath(lockPath);
  writeFileSync(`${file}.new`, `${JSON.stringify(holder)}\n`);
  renameSync(`${file}.new`, file);
}

function holderPath(lockPath: string): string {
  return `${lockPath}.json`;
}

function isBusy(error: unknown): boolean {
  const SQLITE_BUSY = 5;
  return typeof error === "object" && error !== null && (error as { errcode?: unknown }).errcode === SQLITE_BUSY;
}
