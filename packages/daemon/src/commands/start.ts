import type { Logger } from "@sprited/base";
import type { Config } from "../config/index.ts";
import { formatDuration, markFinished, type ProgressReporter, readFinished } from "../setup/index.ts";
import { readToken } from "./api.ts";
import type { DaemonPort } from "./daemon-port.ts";
import { sayHello } from "./hello.ts";
import type { Lifetime } from "./lifetime.ts";
import { serve } from "./serve.ts";

/**
 * `sprited start`: set-up, daemon, and on the very first start a sprite that says hello.
 */

/** Remembered once hello has been said. */
const HELLO_STEP = "hello";

export interface StartOptions {
  config: Config;
  logger: Logger;
  daemon: DaemonPort;
  lifetime: Lifetime;
  progress: ProgressReporter;
  /** Everything before the daemon. */
  setup: () => Promise<void>;
}

/** Runs until the lifetime ends. Resolves with the exit code. */
export async function start(options: StartOptions): Promise<number> {
  const { config, progress, lifetime } = options;
  const startedMs = performance.now();
  return serve({
    ...options,
    before: async () => {
      await options.setup();
      if (progress.shown > 0) progress.line(`Set-up finished in ${formatDuration(performance.now() - startedMs)}.`);
    },
    onReady: async ({ url, tokenPath, daemon }) => {
      const token = await readToken(tokenPath);
      const isFirst = !(await readFinished(config.home)).has(HELLO_STEP);
      if (isFirst) {
        await sayHello({ baseUrl: url, token, progress, signal: lifetime.signal });
        await markFinished(config.home, HELLO_STEP);
      }
      progress.line(welcome({ url, tokenPath, limitations: daemon.limitations, readyMs: performance.now() - startedMs }));
    },
  });
}

/** Whether `sprite` on this host needs to be told nothing: where root's daemon is when no setting moves it. */
function isFoundByTheCli(facts: { url: string; tokenPath: string }): boolean {
  return facts.url === "http://127.0.0.1:7780" && facts.tokenPath === "/var/lib/sprited/token";
}

/** What stands on the screen while the daemon runs. Pure. */
export function welcome(facts: { url: string; tokenPath: string; limitations: readonly string[]; readyMs: number }): string {
  return [
    "",
    `sprited is ready after ${formatDuration(facts.readyMs)}.  URL    ${facts.url}`,
    `${" ".repeat(`sprited is ready after ${formatDuration(facts.readyMs)}.`.length)}  token  ${facts.tokenPath}`,
    ...(facts.limitations.length === 0 ? [] : ["", "On this host:", ...facts.limitations.map((sentence) => `  - ${sentence}`)]),
    "",
    "Next, in another terminal in this directory:",
    ...(isFoundByTheCli(facts) ? [] : [`  export SPRITES_API_URL=${facts.url} SPRITE_TOKEN=$(cat ${facts.tokenPath})`]),
    "  npx sprite create mine      # a computer of your own, with a shell in it",
    "  npx sprite list             # what there is",
    "",
    "Ctrl-C stops the daemon; sprites keep their disks, and running ones run on.",
  ].join("\n");
}
