/**
 * Keeps the sprite's disk from being written for a short while, so that the host can copy a state
 * that needs no repair.
 *
 * Invariants: freezing happens in a process of its own, because this one must go on while data is
 * flushed; that process thaws when it is told to, when the time is over and when this program
 * dies; a freeze begins only when the process of the one before has ended, so that a late thaw
 * never ends another's freeze.
 */
import fs from "node:fs";
import net from "node:net";
import { createInterface } from "node:readline";
import { ignore } from "@sprited/base";
import type { ProcessTable } from "../spawn/process-table.ts";
import { pipe, SystemCallError, thawFileSystem } from "../sys/libc.ts";
import { DISK_MOUNT } from "./disk.ts";

/** $1: the mount, $2: seconds. A closed input ends the wait. Paths, because the shell prefers words of its own. */
const SCRIPT = `sync -f "$1"
/usr/sbin/fsfreeze -f "$1" || exit 1
echo frozen
read -t "$2" line
exec /usr/sbin/fsfreeze -u "$1" 2>/dev/null`;
const SHELL = "/usr/bin/busybox";
/** Lines that are kept of what went wrong, and characters of each. */
const WORDS_MAX = 5;
const LINE_LENGTH_MAX = 200;

interface Attempt {
  /** Write end of the process's input; closing it is the order to thaw. */
  orderFd: number | undefined;
  ended: Promise<unknown>;
}

export class DiskFreeze {
  readonly #processes: ProcessTable;
  #attempt: Attempt | undefined;

  constructor(processes: ProcessTable) {
    this.#processes = processes;
  }

  /** Resolves when nothing is written any more; `end` is due within `timeoutMs`. Throws when the disk cannot be frozen. */
  async begin(timeoutMs: number): Promise<void> {
    this.end();
    await this.#attempt?.ended;
    const order = pipe();
    const said = pipe();
    let child;
    try {
      child = this.#processes.spawn({
        path: SHELL,
        argv: ["sh", "-c", SCRIPT, "freeze", DISK_MOUNT, String(Math.ceil(timeoutMs / 1000))],
        env: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        stdio: [order.readFd, said.writeFd, said.writeFd],
      });
    } catch (error) {
      fs.closeSync(order.writeFd);
      fs.closeSync(said.readFd);
      throw error;
    } finally {
      for (const fd of [order.readFd, said.writeFd]) fs.closeSync(fd);
    }
    this.#attempt = { orderFd: order.writeFd, ended: child.ended };
    const problem = await problemOf(said.readFd);
    if (problem !== undefined) throw new Error(`the disk could not be frozen: ${problem}`);
  }

  /** Thaws at once. Returns whether the disk was frozen until now. */
  end(): boolean {
    const attempt = this.#attempt;
    if (attempt?.orderFd === undefined) return false;
    const { orderFd } = attempt;
    attempt.orderFd = undefined;
    const fd = fs.openSync(DISK_MOUNT, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
    try {
      thawFileSystem(fd);
      return true;
    } catch (error) {
      // Not frozen: thawed by the process, by someone inside, or not frozen yet; the process sees to the last.
      if (error instanceof SystemCallError && error.code === "EINVAL") return false;
      throw error;
    } finally {
      fs.closeSync(fd);
      fs.closeSync(orderFd);
    }
  }
}

/** Waits until the process says that the disk is frozen; what it said instead when it ended without. */
async function problemOf(fd: number): Promise<string | undefined> {
  const output = new net.Socket({ fd, readable: true, writable: false });
  output.on("error", ignore("no word is an answer too"));
  const said: string[] = [];
  try {
    for await (const line of createInterface({ input: output })) {
      if (line === "frozen") return undefined;
      if (said.length < WORDS_MAX) said.push(line.slice(0, LINE_LENGTH_MAX));
    }
    return said.join("; ");
  } finally {
    output.destroy();
  }
}
