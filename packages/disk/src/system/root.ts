/**
 * The part of the system image that does not depend on the agent: Node, the listed programs with
 * their libraries, kernel modules and mount points, made from Debian packages by unpacking only.
 * It is kept unpacked in the cache by recipe, so that a new agent needs seconds. Works without
 * root: owners are set when the image is packed.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, run } from "@sprited/base";
import { z } from "zod";
import type { PrivateApt, ResolvedPackage } from "../apt/private-apt.ts";
import { DiskError } from "../errors.ts";
import { removeTree, tempBeside, writeFileAtomic } from "../layout/atomic.ts";
import type { HomeLayout } from "../layout/home.ts";
import type { OnProgress } from "../pool/pool.ts";
import {
  SPRITE_TOOLBOX,
  SYSTEM_ALIASES,
  SYSTEM_DIRECTORIES,
  SYSTEM_FILES,
  SYSTEM_LINKS,
  SYSTEM_PACKAGES,
  SYSTEM_PROGRAMS,
  SYSTEM_ROOT_REVISION,
  SYSTEM_TEXTS,
} from "./contents.ts";
import { sha256Hex, sha256OfFile } from "../clone/digest.ts";
import { readElf } from "./elf.ts";
import type { Kernel } from "./kernel.ts";
import { parseModulesDep, selectModules, SYSTEM_MODULES } from "./modules.ts";
import { readJson } from "../layout/record.ts";

/** Where the image keeps libraries: Debian's own place, known to the loader without a cache. */
const LIBRARIES = "usr/lib/x86_64-linux-gnu";
/** Where packages bring them. */
const LIBRARY_FOLDERS = [LIBRARIES, "usr/lib64", "usr/lib"];
const LOADER = "usr/lib64/ld-linux-x86-64.so.2";

const rootRecord = z.object({
  packages: z.array(z.object({ name: z.string(), version: z.string(), architecture: z.string() })),
  node: z.string(),
  kernel: z.string(),
});

export interface SystemRoot {
  /** Digest of everything in it. */
  digest: string;
  /** The unpacked tree. */
  tree: string;
  packages: ResolvedPackage[];
}

export interface SystemRootOptions {
  layout: HomeLayout;
  kernel: Kernel;
  /** The Node that the agent runs on. */
  nodePath: string;
  /** Opened only when something must be fetched. */
  openApt: () => Promise<PrivateApt>;
  onProgress: OnProgress;
  signal?: AbortSignal | undefined;
}

/** The system root, from the cache or made now. Throws `DiskError`. */
export async function ensureSystemRoot(options: SystemRootOptions): Promise<SystemRoot> {
  const { layout, kernel, nodePath, onProgress } = options;
  const node = await sha256OfFile(nodePath);
  const recipe = {
    SYSTEM_ROOT_REVISION,
    SYSTEM_PACKAGES,
    SYSTEM_PROGRAMS,
    SYSTEM_LINKS,
    SYSTEM_FILES,
    SYSTEM_DIRECTORIES,
    SYSTEM_TEXTS,
    SYSTEM_MODULES,
  };
  const key = sha256Hex(JSON.stringify([recipe, node, kernel.release, kernel.version])).slice(0, 16);
  const directory = path.join(layout.cache, "system-root", key);
  const recordPath = path.join(directory, "root.json");
  let record = await readJson(recordPath, rootRecord);
  if (!record) {
    onProgress({ step: "system", fraction: 0, detail: "fetching the packages of the system image" });
    const temp = tempBeside(directory);
    await fs.mkdir(path.join(temp, "tree"), { recursive: true });
    try {
      const packages = await unpackPackages(options, path.join(temp, "packages"));
      onProgress({ step: "system", fraction: 0.5, detail: "choosing programs and libraries" });
      await fillTree(options, path.join(temp, "packages"), path.join(temp, "tree"));
      await removeTree(path.join(temp, "packages"), temp);
      record = { packages, node, kernel: kernel.release };
      await writeFileAtomic(path.join(temp, "root.json"), `${JSON.stringify(record, undefined, 1)}\n`);
      await removeTree(directory, layout.cache);
      await fs.rename(temp, directory);
    } finally {
      await removeTree(temp, layout.cache);
    }
  }
  return { digest: sha256Hex(JSON.stringify([key, record])), tree: path.join(directory, "tree"), packages: record.packages };
}

async function unpackPackages(options: SystemRootOptions, target: string): Promise<ResolvedPackage[]> {
  const apt = await options.openApt();
  const packages = await apt.resolve(SYSTEM_PACKAGES, { signal: options.signal });
  const debs = await apt.download(
    packages.map((one) => `${one.name}=${one.version}`),
    { signal: options.signal },
  );
  await fs.mkdir(target, { recursive: true });
  // base-files carries the links that make /lib the same as /usr/lib: it must lie there first.
  const ordered = [...debs].sort((a, b) => Number(isBaseFiles(b)) - Number(isBaseFiles(a)));
  for (const [index, deb] of ordered.entries()) {
    options.onProgress({ step: "system", fraction: 0.2 + (0.3 * index) / ordered.length, detail: path.basename(deb).replace(/_.*/, "") });
    await run("dpkg-deb", ["-x", deb, target], { signal: options.signal });
  }
  return packages;
}

function isBaseFiles(deb: string): boolean {
  return path.basename(deb).startsWith("base-files_");
}

async function fillTree(options: SystemRootOptions, packages: string, tree: string): Promise<void> {
  const { kernel, nodePath, signal } = options;
  for (const directory of SYSTEM_DIRECTORIES) await fs.mkdir(path.join(tree, directory), { recursive: true });
  for (const [link, target] of SYSTEM_ALIASES) await fs.symlink(target, path.join(tree, link));
  for (const [file, text] of Object.entries(SYSTEM_TEXTS)) await fs.writeFile(path.join(tree, file), text);
  for (const file of [...SYSTEM_FILES, ...SYSTEM_PROGRAMS]) {
    await fs.mkdir(path.dirname(path.join(tree, file)), { recursive: true });
    await fs.copyFile(await fs.realpath(path.join(packages, file)), path.join(tree, file));
  }
  await fs.symlink("../usr/lib/os-release", path.join(tree, "etc/os-release"));
  for (const [link, target] of SYSTEM_LINKS) await fs.symlink(target, path.join(tree, link));

  const node = path.join(tree, "usr/bin/node");
  await fs.copyFile(nodePath, node);
  await fs.chmod(node, 0o755);
  await run("strip", ["--strip-unneeded", node], { signal }).catch(ignore("binutils is not required: the image is some MB larger"));

  await copyLibraries(packages, tree, [...SYSTEM_PROGRAMS, "usr/bin/node"]);
  await linkBusybox(tree, signal);
  await fillToolbox(tree);
  await copyModules(kernel, tree, signal);
}

/** Copies every library that `programs` want, directly or not. */
async function copyLibraries(packages: string, tree: string, programs: readonly string[]): Promise<void> {
  const waiting = [...programs];
  const done = new Set<string>();
  for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
    const facts = readElf(await fs.readFile(path.join(tree, file)));
    const wanted = [...(facts?.needed ?? []), ...(facts?.interpreter ? [path.basename(facts.interpreter)] : [])];
    for (const name of wanted) {
      if (done.has(name)) continue;
      done.add(name);
      waiting.push(await copyLibrary(packages, tree, name, file));
    }
  }
}

async function copyLibrary(packages: string, tree: string, name: string, wantedBy: string): Promise<string> {
  for (const folder of LIBRARY_FOLDERS) {
    const source = path.join(packages, folder, name);
    const real = await fs.realpath(source).catch(ignore("not in this folder"));
    if (real === undefined) continue;
    const target = name === path.basename(LOADER) ? LOADER : path.join(LIBRARIES, name);
    await fs.mkdir(path.dirname(path.join(tree, target)), { recursive: true });
    await fs.copyFile(real, path.join(tree, target));
    await fs.chmod(path.join(tree, target), 0o755);
    return target;
  }
  throw new DiskError("disk_build_failed", `${wantedBy} wants ${name}, which no package of the system image brings`);
}

async function linkBusybox(tree: string, signal: AbortSignal | undefined): Promise<void> {
  const { stdout } = await run(path.join(tree, "usr/bin/busybox"), ["--list-full"], { signal });
  for (const applet of stdout.split("\n").filter(Boolean)) {
    const name = path.basename(applet);
    const folder = /(^|\/)sbin\//.test(applet) ? "usr/sbin" : "usr/bin";
    const taken = await Promise.all(["usr/bin", "usr/sbin"].map((one) => exists(path.join(tree, one, name))));
    if (taken.includes(true)) continue;
    await fs.symlink(folder === "usr/bin" ? "busybox" : "../bin/busybox", path.join(tree, folder, name));
  }
}

async function exists(file: string): Promise<boolean> {
  return fs.lstat(file).then(
    () => true,
    () => false,
  );
}

async function fillToolbox(tree: string): Promise<void> {
  const copies: [string, string][] = [
    ["usr/bin/busybox", "bin/busybox"],
    ["usr/bin/setpriv", "libexec/setpriv"],
    [LOADER, "lib/ld-linux-x86-64.so.2"],
  ];
  const setpriv = readElf(await fs.readFile(path.join(tree, "usr/bin/setpriv")));
  for (const name of setpriv?.needed ?? []) copies.push([path.join(LIBRARIES, name), path.join("lib", name)]);
  for (const [source, target] of copies) {
    const file = path.join(tree, SPRITE_TOOLBOX, target);
    await fs.mkdir(path.dirname(file), { recursive: true });
    await fs.copyFile(path.join(tree, source), file);
    await fs.chmod(file, 0o755);
  }
}

async function copyModules(kernel: Kernel, tree: string, signal: AbortSignal | undefined): Promise<void> {
  const target = path.join(tree, "usr/lib/modules", kernel.release);
  const index = parseModulesDep(await fs.readFile(path.join(kernel.modulesPath, "modules.dep"), "utf8"));
  const chosen = selectModules(index, SYSTEM_MODULES);
  const packed: string[] = [];
  for (const one of chosen) {
    const file = path.join(target, one);
    await fs.mkdir(path.dirname(file), { recursive: true });
    await fs.copyFile(path.join(kernel.modulesPath, one), file);
    if (file.endsWith(".xz")) packed.push(file);
  }
  // Uncompressed: loading must not cost an emulated guest the unpacking, and no tool is needed.
  if (packed.length > 0) await run("xz", ["--decompress", ...packed], { signal });
  for (const name of ["modules.builtin", "modules.builtin.modinfo", "modules.order"]) {
    await fs.copyFile(path.join(kernel.modulesPath, name), path.join(target, name)).catch(ignore("older kernels do not have all of them"));
  }
  await run("depmod", ["-b", tree, kernel.release], { signal });
}
