import { chown } from "node:fs/promises";
import { ignore, type Logger } from "@sprited/base";
import { homeLayout, loadSystem } from "@sprited/disk";
import type { Config } from "../config/index.ts";
import { lockHome } from "../lock.ts";
import { ensureHome } from "../setup/index.ts";
import { urlOf } from "./api.ts";
import type { DaemonPort, RunningDaemon } from "./daemon-port.ts";
import { CommandError } from "./failure.ts";
import type { Lifetime } from "./lifetime.ts";
import { requirePortFree } from "./port.ts";

/**
 * The daemon in the foreground, from the lock to the orderly end. VMs are none of its children
 * and run on.
 */

export interface ServeOptions {
  config: Config;
  logger: Logger;
  daemon: DaemonPort;
  lifetime: Lifetime;
  /** Called while the lock is held, before the daemon starts: the set-up. */
  before?: () => Promise<void>;
  /** Called once requests are answered. */
  onReady: (running: { url: string; tokenPath: string; daemon: RunningDaemon }) => Promise<void>;
}

/** Serves until the lifetime ends. Resolves with the exit code. */
export async function serve(options: ServeOptions): Promise<number> {
  const { config, logger, lifetime } = options;
  const layout = homeLayout(config.home);
  if (!options.before && (await loadSystem(layout)) === undefined) {
    throw new CommandError("not_set_up", `${config.home} is not set up yet. Run npm start (or npx sprited setup) once.`);
  }
  await ensureHome(config.home);
  using lock = lockHome(layout.lockPath, options.before ? "set-up" : "daemon");
  // Found out now, not after minutes of set-up.
  await requirePortFree(config.listen);
  await options.before?.();
  const daemon = await options.daemon.start(config, { logger });
  try {
    const url = urlOf(daemon.address);
    lock.describe({ role: "daemon", url });
    await giveToOwner(config, [config.home, layout.tokenPath]);
    await options.onReady({ url, tokenPath: layout.tokenPath, daemon });
    const reason = await lifetime.stopped;
    logger.info({ event: "stop", reason: reason.why }, "stopping");
    return reason.exitCode;
  } finally {
    await daemon.close();
  }
}

/** What root made for somebody who used sudo must be readable by them. */
async function giveToOwner(config: Config, paths: readonly string[]): Promise<void> {
  if (!config.owner) return;
  for (const path of paths) await chown(path, config.owner.uid, config.owner.gid).catch(ignore("the token may be made later"));
}
