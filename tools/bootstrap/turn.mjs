import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { BootstrapError, EXIT } from "./exit-codes.mjs";

/**
 * Lets one bootstrap of a checkout work at a time. `flock` holds the lock because no Node can: its
 * child reads from a pipe of ours, so the kernel frees the lock with this process, however it ends.
 */

/** How often a waiting bootstrap looks again, `ms`. */
const RETRY_MS = 250;
/** What `flock` ends with when another one has the lock. */
const TAKEN = 75;

/**
 * @param {string} root of the repository
 * @param {() => void} onWait called once when another one is at work
 * @returns {Promise<() => void>} gives the turn back
 */
export async function takeTurn(root, onWait) {
  const file = path.join(root, "dist", "bootstrap.lock");
  mkdirSync(path.dirname(file), { recursive: true });
  for (let attempt = 0; ; attempt += 1) {
    const giveBack = await tryLock(file);
    if (giveBack) return giveBack;
    if (attempt === 0) onWait();
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/**
 * @param {string} file
 * @returns {Promise<(() => void) | undefined>} gives the lock back; undefined when another one has it
 */
function tryLock(file) {
  return new Promise((resolve, reject) => {
    const holder = spawn("flock", ["--nonblock", "--conflict-exit-code", String(TAKEN), file, "cat"], {
      stdio: ["pipe", "pipe", "ignore"],
    });
    const fail = () => reject(new BootstrapError(EXIT.failed, `${file} cannot be locked. flock is part of the package util-linux.`));
    holder.once("error", fail);
    holder.once("exit", (code) => (code === TAKEN ? resolve(undefined) : fail()));
    // `cat` runs, and answers, only while the lock is held.
    holder.stdout.once("data", () => resolve(() => holder.stdin.end()));
    // The pipe of a holder that did not get the lock is closed already.
    holder.stdin.on("error", () => undefined);
    holder.stdin.write("\n");
  });
}
