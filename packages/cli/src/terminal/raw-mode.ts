/**
 * The user's terminal line discipline, switched off while a remote terminal is shown.
 *
 * `stty` does it because Node's own raw mode leaves output processing on: a bare line feed of a
 * full-screen program would then return the carriage and garble the screen. `stty -g` saves every
 * setting, so that restoring gives exactly what was there.
 */
// oxlint-disable-next-line house/no-raw-spawn -- must also work while the process exits, when nothing can wait
import { spawnSync } from "node:child_process";
import type { ReadStream } from "node:tty";

/** `stty` answers at once or never, ms. */
const STTY_TIMEOUT_MS = 2000;

export interface RawMode {
  /** Sets raw mode once more, after something else changed the settings. */
  apply(): void;
  /** Puts every setting back. May be called twice. */
  restore(): void;
}

/** Switches the terminal on `stdin` to raw. Without `stty`, Node's raw mode must do. */
export function enterRawMode(stdin: ReadStream): RawMode {
  const saved = stty(["-g"])?.trim();
  if (!saved || !/^[0-9a-f:]+$/i.test(saved)) {
    stdin.setRawMode(true);
    return { apply: () => void stdin.setRawMode(true), restore: () => void stdin.setRawMode(false) };
  }
  const apply = (): void => void stty(["raw", "-echo", "-iexten"]);
  apply();
  return { apply, restore: () => void stty([saved]) };
}

/** Runs `stty` on our standard input; undefined when it is missing or failed. */
function stty(args: readonly string[]): string | undefined {
  const result = spawnSync("stty", args, { stdio: ["inherit", "pipe", "ignore"], encoding: "utf8", timeout: STTY_TIMEOUT_MS });
  return result.status === 0 ? result.stdout : undefined;
}
