import { BootstrapError, EXIT } from "./exit-codes.mjs";

/** Oldest Node on which the bootstrap itself runs: what Debian 12 and Ubuntu 24.04 have. */
const NODE_MAJOR_MIN = 18;

/**
 * Throws unless this machine can run the product at all. Pure.
 * @param {{ platform: string, arch: string, nodeVersion: string }} host as `process` names them
 */
export function requirePlatform(host) {
  if (host.platform !== "linux" || host.arch !== "x64") {
    throw new BootstrapError(
      EXIT.unsupportedHost,
      `sprited runs virtual machines on Linux x86-64 only; this is ${host.platform} ${host.arch}.`,
    );
  }
  const major = Number(host.nodeVersion.replace(/^v/, "").split(".")[0]);
  if (!(major >= NODE_MAJOR_MIN)) {
    throw new BootstrapError(
      EXIT.oldNode,
      `Node ${NODE_MAJOR_MIN} or newer is needed to begin with (the right one is brought along); this is ${host.nodeVersion}. ` +
        "On Debian 12 and Ubuntu 24.04 or newer: apt install nodejs npm; elsewhere: https://nodejs.org.",
    );
  }
}
