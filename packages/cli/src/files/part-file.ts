/**
 * What has come of a file that is being fetched, beside its place: `.sprite-NAME-VERSION.PID.part`,
 * both hashes. A later run finds what an earlier one left and goes on with it.
 *
 * Invariants: a part is of exactly one version (size and time of the last change) of one file of one
 * sprite; nobody takes what a running process has; whoever uses a part that was left compares hashes.
 */
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import type { Remote } from "./remote.ts";

const PATTERN = /^\.sprite-([0-9a-f]{8})-([0-9a-f]{16})\.(\d{1,10})\.part$/;

/** Parts smaller than this are not kept, bytes: to fetch them again costs no more than to compare hashes. */
export const KEPT_BYTES_MIN = 1024 * 1024;

/** Which file of which sprite, and how it is. */
export interface Version {
  remote: Remote;
  source: string;
  size: number;
  mtimeMs: number;
}

/** Whether a name is that of a part. */
export function isPartName(name: string): boolean {
  return PATTERN.test(name);
}

/** Where this process keeps what comes of `version` for the file `to`. */
export function partOf(to: string, version: Version): string {
  return path.join(path.dirname(to), `.sprite-${nameHash(to)}-${versionHash(version)}.${process.pid}.part`);
}

/** Finds what earlier runs left; reads each directory once. */
export class LeftParts {
  readonly #byDirectory = new Map<string, string[]>();

  /** Takes over a part of exactly this version, and removes those of others for the same file. Its path, or undefined. */
  async claim(to: string, version: Version): Promise<string | undefined> {
    const directory = path.dirname(to);
    const [file, wanted, ours] = [nameHash(to), versionHash(version), partOf(to, version)];
    let claimed: string | undefined;
    for (const name of await this.#left(directory)) {
      const [, ofFile, ofVersion, pid] = PATTERN.exec(name) ?? [];
      if (ofFile !== file || isRunning(Number(pid))) continue;
      const left = path.join(directory, name);
      if (ofVersion === wanted && claimed === undefined && (await isMoved(left, ours))) claimed = ours;
      else if (left !== ours) await fs.promises.rm(left, { force: true });
    }
    return claimed;
  }

  async #left(directory: string): Promise<string[]> {
    const known = this.#byDirectory.get(directory);
    if (known) return known;
    const names = (await namesIn(directory)).filter(isPartName);
    this.#byDirectory.set(directory, names);
    return names;
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await fs.promises.readdir(directory);
  } catch {
    return []; // whoever writes there is told why
  }
}

async function isMoved(from: string, to: string): Promise<boolean> {
  try {
    await fs.promises.rename(from, to);
    return true;
  } catch {
    return false; // another run was quicker
  }
}

/** This process's own number may be that of an earlier one. */
function isRunning(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: unknown }).code !== "ESRCH";
  }
}

function nameHash(to: string): string {
  return createHash("sha256").update(path.basename(to)).digest("hex").slice(0, 8);
}

function versionHash({ remote, source, size, mtimeMs }: Version): string {
  const facts = [remote.address.apiUrl, remote.sprite, remote.checkpoint ?? null, source, size, mtimeMs];
  return createHash("sha256").update(JSON.stringify(facts)).digest("hex").slice(0, 16);
}
