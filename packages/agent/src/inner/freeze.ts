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

/** $1: the mount, $2: seconds. A closed input ends the wait. */
const SCRIPT = `sync -f "$1"
fsfreeze -f "$1" || exit 1
echo frozen
read -t "$2" line
exec fsfreeze -u "$1"`;
const SHELL = "/usr/bin/busybox";

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
    const trash = fs.openSync("/dev/null", "w");
    let child;
    try {
      child = this.#processes.spawn({
        path: SHELL,
        argv: ["sh", "-c", SCRIPT, "freeze", DISK_MOUNT, String(Math.ceil(timeoutMs / 1000))],
        env: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        stdio: [order.readFd, said.writeFd, trash],
      });
    } catch (error) {
      fs.closeSync(order.writeFd);
      fs.closeSync(said.readFd);
      throw error;
    } finally {
      for (const fd of [order.readFd, said.writeFd, trash]) fs.closeSync(fd);
    }
    this.#attempt = { orderFd: order.writeFd, ended: child.ended };
    if (!(await saysFrozen(said.readFd))) throw new Error("the disk could not be frozen");
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

async function saysFrozen(fd: number): Promise<boolean> {
  const output = new net.Socket({ fd, readable: true, writable: false });
  output.on("error", ignore("no word is an answer too"));
  try {
    for await (const line of createInterface({ input: output })) if (line === "frozen") return true;
    return false;
  } finally {
    output.destroy();
  }
}
