/**
 * A private apt: own sources, lists and archives below one directory, an empty package database.
 * It answers what a suite offers and fetches .deb files; the host's own package state is neither
 * read nor changed. Works without root. Everything fetched is checked by apt against the Debian
 * archive keyring.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, run, RunError } from "@sprited/base";
import { sha256Hex } from "../clone/digest.ts";
import { DiskError } from "../errors.ts";
import { hostAptProxy, networkEnvironment } from "./host-network.ts";

/** Limit of one apt call, ms: a kernel on a slow line. */
const APT_TIMEOUT_MS = 20 * 60_000;

/** Where Debian's keys are, whatever the host. */
export const DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

export interface AptSource {
  uri: string;
  suite: string;
}

/** What an installation would fetch. */
export interface InstallPlan {
  packages: number;
  /** Bytes of all files. */
  downloadBytes: number;
}

/** One package as apt resolved it. */
export interface ResolvedPackage {
  name: string;
  version: string;
  architecture: string;
}

export interface PrivateApt {
  /** Fetches the package lists. Throws `disk_build_failed`. */
  update(options?: CallOptions): Promise<void>;
  /** Whether lists were fetched earlier. */
  hasLists(): Promise<boolean>;
  /** What installing `packages` on an empty system would bring, without recommendations. */
  resolve(packages: readonly string[], options?: CallOptions): Promise<ResolvedPackage[]>;
  /** How much installing `packages` on an empty system would fetch, counted from the lists. */
  plan(packages: readonly string[], options?: CallOptions): Promise<InstallPlan>;
  /** Fetches exactly these packages (`name` or `name=version`) and returns the paths of the files. */
  download(packages: readonly string[], options?: CallOptions): Promise<string[]>;
  /** Removes the fetched files; what was made of them stays. */
  forgetDownloads(): Promise<void>;
}

export interface CallOptions {
  signal?: AbortSignal | undefined;
  onLine?: (line: string) => void;
}

/** Debian's sources for one suite with its security and point updates. */
export function debianSources(suite: string, mirror: string, securityMirror: string): AptSource[] {
  return [
    { uri: mirror, suite },
    { uri: mirror, suite: `${suite}-updates` },
    { uri: securityMirror, suite: `${suite}-security` },
  ];
}

/** Lines of sources.list, signed by `keyring`. */
export function sourcesList(sources: readonly AptSource[], keyring: string): string {
  return sources.map(({ uri, suite }) => `deb [signed-by=${keyring}] ${uri} ${suite} main\n`).join("");
}

/** Configuration that keeps apt inside `directory`. `proxy` is the host's own setting, kept. */
export function aptConfig(directory: string, proxy: Readonly<Record<string, string>>): string {
  const settings: Record<string, string> = {
    "Dir::State": path.join(directory, "state"),
    "Dir::State::lists": path.join(directory, "lists"),
    "Dir::State::status": path.join(directory, "status"),
    "Dir::Cache": path.join(directory, "cache"),
    "Dir::Cache::archives": path.join(directory, "archives"),
    // Parsed lists are kept for a few calls only; on disk they are larger than the lists themselves.
    "Dir::Cache::pkgcache": "",
    "Dir::Cache::srcpkgcache": "",
    "Dir::Etc::main": "/dev/null",
    "Dir::Etc::parts": "/dev/null",
    "Dir::Etc::sourcelist": path.join(directory, "sources.list"),
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::Etc::preferences": "/dev/null",
    "Dir::Etc::preferencesparts": "/dev/null",
    "Dir::Log": path.join(directory, "log"),
    "APT::Architecture": "amd64",
    "APT::Architectures": "amd64",
    "APT::Install-Recommends": "false",
    "APT::Sandbox::User": "root",
    "APT::Get::Assume-Yes": "true",
    "Acquire::Languages": "none",
    "Acquire::Retries": "3",
    "Acquire::http::Timeout": "30",
    "Debug::NoLocking": "true",
    ...proxy,
  };
  return Object.entries(settings)
    .map(([key, value]) => `${key} "${value.replaceAll('"', "")}";\n`)
    .join("");
}

/** Reads `Inst name (version origin [arch])` lines of a simulated installation. */
export function parseSimulation(output: string): ResolvedPackage[] {
  const packages: ResolvedPackage[] = [];
  for (const line of output.split("\n")) {
    const [, name, version, architecture] = /^Inst (\S+) (?:\[\S+\] )?\((\S+) .*\[(\w+)\]\)/.exec(line) ?? [];
    if (name && version && architecture) packages.push({ name, version, architecture });
  }
  return packages;
}

/** Counts the `'address' file size hash` lines of `--print-uris`. */
export function parseUris(output: string): InstallPlan {
  const plan: InstallPlan = { packages: 0, downloadBytes: 0 };
  for (const line of output.split("\n")) {
    const match = /^'\S+' \S+\.deb (\d+)( |$)/.exec(line);
    if (!match) continue;
    plan.packages += 1;
    plan.downloadBytes += Number(match[1]);
  }
  return plan;
}

/** Name that apt gives the file of a package. */
export function debFileName(one: ResolvedPackage): string {
  return `${one.name}_${one.version.replaceAll(":", "%3a")}_${one.architecture}.deb`;
}

/** Opens (making it where needed) the private apt for these sources below `root`. No network. */
export async function openPrivateApt(root: string, sources: readonly AptSource[]): Promise<PrivateApt> {
  await requireKeyring();
  const list = sourcesList(sources, DEBIAN_KEYRING);
  // Equal sources share lists; other sources never see them.
  const directory = path.join(root, `${sources[0]?.suite}-${sha256Hex(list).slice(0, 8)}`);
  for (const part of ["lists/partial", "cache", "archives/partial", "state", "log", "deb"]) {
    await fs.mkdir(path.join(directory, part), { recursive: true });
  }
  const configPath = path.join(directory, "apt.conf");
  const listsMark = path.join(directory, "lists-of");
  await fs.writeFile(path.join(directory, "status"), "");
  await fs.writeFile(path.join(directory, "sources.list"), list);
  await fs.writeFile(configPath, aptConfig(directory, await hostAptProxy()));

  const apt = async (args: readonly string[], what: string, options: CallOptions & { cwd?: string } = {}): Promise<string> => {
    try {
      const result = await run("apt-get", args, {
        timeoutMs: APT_TIMEOUT_MS,
        env: { ...networkEnvironment(), APT_CONFIG: configPath, DEBIAN_FRONTEND: "noninteractive" },
        cwd: options.cwd ?? directory,
        signal: options.signal,
        ...(options.onLine ? { onLine: options.onLine } : {}),
      });
      return result.stdout;
    } catch (cause) {
      if (!(cause instanceof RunError)) throw cause;
      const unknown = /^E: Unable to locate package (\S+)|^E: Version '(\S+)' for '\S+' was not found/m.exec(cause.stderr);
      if (unknown)
        throw new DiskError("disk_image_invalid", `Debian has no package ${unknown[1] ?? unknown[2]} in ${sources[0]?.suite}`, { cause });
      throw new DiskError("disk_build_failed", `${what} failed: is the Debian mirror reachable (${sources[0]?.uri})?`, { cause });
    }
  };

  return {
    async update(options) {
      await apt(["update", "-q", "-o", "APT::Update::Error-Mode=any"], "fetching the package lists", options);
      await fs.writeFile(listsMark, list);
    },
    async hasLists() {
      const found = await fs.readFile(listsMark, "utf8").catch(ignore("never fetched"));
      return found === list;
    },
    async resolve(packages, options) {
      return parseSimulation(await apt(["install", "-q", "-s", ...packages], "resolving packages", options));
    },
    async plan(packages, options) {
      return parseUris(await apt(["install", "-q", "--print-uris", ...packages], "counting packages", options));
    },
    async download(packages, options) {
      const target = path.join(directory, "deb");
      await apt(["download", "-q", ...packages], "fetching packages", { ...options, cwd: target });
      return Promise.all(packages.map((spec) => findDeb(target, spec)));
    },
    async forgetDownloads() {
      for (const name of await fs.readdir(path.join(directory, "deb"))) await fs.rm(path.join(directory, "deb", name));
    },
  };
}

async function findDeb(directory: string, spec: string): Promise<string> {
  const [named = "", version] = spec.split("=");
  const name = named.split("/")[0];
  const prefix = `${name}_${version === undefined ? "" : `${version.replaceAll(":", "%3a")}_`}`;
  const found: { file: string; changedMs: number }[] = [];
  for (const file of await fs.readdir(directory)) {
    if (!file.startsWith(prefix) || !file.endsWith(".deb")) continue;
    found.push({ file: path.join(directory, file), changedMs: (await fs.stat(path.join(directory, file))).ctimeMs });
  }
  const newest = found.sort((a, b) => b.changedMs - a.changedMs)[0];
  if (!newest) throw new DiskError("disk_build_failed", `the package ${name} was fetched but its file is not there`);
  return newest.file;
}

async function requireKeyring(): Promise<void> {
  try {
    await fs.access(DEBIAN_KEYRING);
  } catch (cause) {
    throw new DiskError("disk_build_failed", "Debian's keys are missing: install the package debian-archive-keyring", { cause });
  }
}
