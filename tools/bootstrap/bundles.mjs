import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";

/**
 * Bundles are built when the content of their sources changed. The stamp is written after the
 * bundle, so a killed build is simply built again.
 */

/**
 * @typedef {object} Bundle
 * @property {string} name for people and for the stamp's file name
 * @property {string} script builds it; run with the private Node in the repository's root
 * @property {readonly string[]} sources files and directories it is made from, beside the script
 * @property {string} output file or directory it makes
 */

/** @type {readonly Bundle[]} */
export const BUNDLES = [
  {
    name: "agent",
    script: "tools/agent-bundle.ts",
    sources: ["packages/agent", "packages/base", "packages/protocol", "package-lock.json"],
    output: "dist/agent",
  },
  {
    name: "cli",
    script: "tools/cli-bundle.ts",
    sources: ["packages/cli", "packages/protocol", "package-lock.json"],
    output: "packages/cli/dist",
  },
];

/**
 * Names of the bundles whose stamp does not match their sources.
 * @param {string} root of the repository
 */
export function staleBundles(root) {
  return BUNDLES.filter((bundle) => readStamp(root, bundle) !== stampOf(root, bundle));
}

/**
 * Records that a bundle was just built from what its sources are now.
 * @param {string} root of the repository
 * @param {Bundle} bundle
 * @param {string} sourcesDigest as `sourcesDigest` gave it before the build began
 */
export function writeStamp(root, bundle, sourcesDigest) {
  const file = stampPath(root, bundle);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, `${sourcesDigest} ${outputDigest(root, bundle)}\n`);
  renameSync(`${file}.new`, file);
}

/**
 * @param {string} root
 * @param {Bundle} bundle
 */
export function sourcesDigest(root, bundle) {
  const hash = createHash("sha256");
  for (const source of [bundle.script, ...bundle.sources]) {
    for (const file of filesBelow(root, source)) {
      const content = readFileSync(path.join(root, file));
      hash.update(`${file}\0${content.length}\0`).update(content);
    }
  }
  return hash.digest("hex");
}

/**
 * @param {string} root
 * @param {Bundle} bundle
 */
function stampOf(root, bundle) {
  return `${sourcesDigest(root, bundle)} ${outputDigest(root, bundle)}`;
}

/**
 * Names and sizes of what was built: notices files that were removed or cut short.
 * @param {string} root
 * @param {Bundle} bundle
 */
function outputDigest(root, bundle) {
  const hash = createHash("sha256");
  for (const file of filesBelow(root, bundle.output)) hash.update(`${file}\0${statSync(path.join(root, file)).size}\0`);
  return hash.digest("hex");
}

/**
 * @param {string} root
 * @param {Bundle} bundle
 */
function readStamp(root, bundle) {
  const file = stampPath(root, bundle);
  return existsSync(file) ? readFileSync(file, "utf8").trim() : undefined;
}

/**
 * @param {string} root
 * @param {Bundle} bundle
 */
function stampPath(root, bundle) {
  return path.join(root, "dist", "stamps", bundle.name);
}

/**
 * Files at or below a path, sorted, without tests, installed packages and bundles inside sources.
 * @param {string} root
 * @param {string} relative
 * @returns {string[]}
 */
function filesBelow(root, relative) {
  const absolute = path.join(root, relative);
  if (!existsSync(absolute)) return [];
  if (!statSync(absolute).isDirectory()) return [relative];
  return readdirSync(absolute, { withFileTypes: true })
    .filter((entry) => entry.name !== "node_modules" && entry.name !== "dist" && !/\.test\.[cm]?ts$/.test(entry.name))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => filesBelow(root, path.join(relative, entry.name)));
}
