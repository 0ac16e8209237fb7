import { spawn } from "node:child_process";
import os from "node:os";

/**
 * Runs a program as if it had replaced this process: same terminal, signals passed on, its exit
 * code becomes ours. The program also gets a channel whose end tells it that we are gone, so that
 * killing the starter (which no handler can notice) still stops what it started.
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv }} [options]
 * @returns {Promise<number>} exit code
 */
export async function handOver(program, args, options = {}) {
  const child = spawn(program, args, { ...options, stdio: ["inherit", "inherit", "inherit", "ipc"] });
  /** @type {readonly NodeJS.Signals[]} */
  const passedOn = ["SIGTERM", "SIGHUP"];
  // A terminal sends Ctrl-C to the child as well; staying alive until it has ended is all there is to do.
  /** @type {() => void} */
  const stay = () => undefined;
  process.on("SIGINT", stay);
  process.on("SIGQUIT", stay);
  const forwards = passedOn.map((signal) => {
    const forward = () => void child.kill(signal);
    process.on(signal, forward);
    return () => process.off(signal, forward);
  });
  try {
    return await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => resolve(code ?? 128 + (signal ? os.constants.signals[signal] : 0)));
    });
  } finally {
    process.off("SIGINT", stay);
    process.off("SIGQUIT", stay);
    for (const undo of forwards) undo();
    if (child.connected) child.disconnect();
  }
}
