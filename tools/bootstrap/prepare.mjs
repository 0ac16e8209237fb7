import { spawnSync } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { sourcesDigest, staleBundles, writeStamp } from "./bundles.mjs";
import { dependenciesAreInstalled, installDependencies, privateNodePath } from "./dependencies.mjs";
import { BootstrapError, EXIT } from "./exit-codes.mjs";
import { requirePlatform } from "./platform.mjs";
import { takeTurn } from "./turn.mjs";

/**
 * Makes a fresh clone able to run TypeScript: packages, private Node, bundles. Plain JavaScript
 * for the Node a distribution has; needs no installed package. When everything is in place it
 * starts no process and opens no connection.
 */

/** Root of the repository. */
export const ROOT = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));

/** Options every run of TypeScript gets. */
export const NODE_OPTIONS = ["--disable-warning=ExperimentalWarning"];

/**
 * Options of the daemon beside them, the same as in packages/daemon/bin/sprited: young objects get less room, which spares 20 MB, and are
 * collected by one thread; it may ask for that itself.
 */
export const DAEMON_OPTIONS = ["--max-semi-space-size=4", "--no-parallel-scavenge", "--expose-gc"];

/** The daemon's environment beside the host's, as in packages/daemon/bin/sprited: buffers of passed-on data go back to the system when they are freed. */
export const DAEMON_ENVIRONMENT = { MALLOC_MMAP_THRESHOLD_: "65536" };

/**
 * @param {{ bundles: boolean }} options
 * @returns {Promise<string>} path of the Node to run TypeScript with
 */
export async function prepare(options) {
  requirePlatform({ platform: process.platform, arch: process.arch, nodeVersion: process.version });
  if (isPrepared(options)) return privateNodePath(ROOT);
  const giveBack = await takeTurn(ROOT, () => say("Another start is installing in this directory; waiting for it."));
  try {
    if (!dependenciesAreInstalled(ROOT)) {
      await timed("npm packages and Node 24 (npm ci, about 400 MB on disk)", () => installDependencies(ROOT, process.env));
      if (!dependenciesAreInstalled(ROOT)) {
        throw new BootstrapError(EXIT.dependencies, "npm ci ended well, but node_modules is not what package-lock.json asks for.");
      }
    }
    if (options.bundles) for (const bundle of staleBundles(ROOT)) await timed(`bundle: ${bundle.name}`, () => build(bundle));
  } finally {
    giveBack();
  }
  return privateNodePath(ROOT);
}

/**
 * Runs `work` and ends this process with its exit code; errors become one line and their code.
 * @param {() => Promise<number>} work
 */
export async function main(work) {
  try {
    process.exitCode = await work();
  } catch (error) {
    if (!(error instanceof BootstrapError)) throw error;
    process.stderr.write(`sprited: ${error.message}\n`);
    process.exitCode = error.exitCode;
  }
}

/** @param {{ bundles: boolean }} options */
function isPrepared(options) {
  return dependenciesAreInstalled(ROOT) && (!options.bundles || staleBundles(ROOT).length === 0);
}

/** @param {import("./bundles.mjs").Bundle} bundle */
async function build(bundle) {
  // Taken before the build: a source edited meanwhile makes the next start build again.
  const digest = sourcesDigest(ROOT, bundle);
  const result = spawnSync(privateNodePath(ROOT), [...NODE_OPTIONS, "tools/build-bundle.ts", bundle.script, bundle.output], {
    cwd: ROOT,
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (result.status !== 0) throw new BootstrapError(EXIT.failed, `${bundle.script} could not build its bundle.`);
  writeStamp(ROOT, bundle, digest);
}

/**
 * @param {string} what
 * @param {() => Promise<void>} work
 */
async function timed(what, work) {
  const started = Date.now();
  say(`▸ ${what}`);
  await work();
  say(`✓ ${what}  ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

/** @param {string} line */
function say(line) {
  process.stdout.write(`${line}\n`);
}
