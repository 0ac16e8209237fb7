/**
 * The system image: what every VM boots, the same for all sprites. One directory per digest with
 * `system.erofs`, `initrd.img`, `vmlinuz` and `system.json`; `current` names the newest.
 *
 * Invariants: a digest directory is complete (it is renamed into place) and never changed; equal
 * inputs give the directory that is already there; memory snapshots keep booting from the
 * digest they were made with.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, run } from "@sprited/base";
import { z } from "zod";
import type { PrivateApt } from "../apt/private-apt.ts";
import { DiskError } from "../errors.ts";
import type { SystemImage } from "../image/image.ts";
import { removeTree, syncDirectory, syncFile, tempBeside, writeFileAtomic } from "../layout/atomic.ts";
import type { HomeLayout } from "../layout/home.ts";
import type { OnProgress } from "../pool/pool.ts";
import { AGENT_DIRECTORY } from "./contents.ts";
import { sha256Hex, sha256OfTree } from "../clone/digest.ts";
import { makeInitrd } from "./initrd.ts";
import type { Kernel } from "./kernel.ts";
import { readJson } from "../layout/record.ts";
import { ensureSystemRoot } from "./root.ts";

/** Raised when packing changes in a way that the inputs do not show. */
const PACKING_REVISION = 1;
const FILES = ["system.erofs", "initrd.img", "vmlinuz"] as const;

const systemRecord = z.object({
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  kernel: z.string(),
  builtAt: z.string(),
  /** Bytes of each file. */
  sizes: z.record(z.string(), z.int()),
  packages: z.array(z.object({ name: z.string(), version: z.string(), architecture: z.string() })),
});

export interface BuildSystemOptions {
  layout: HomeLayout;
  kernel: Kernel;
  /** Directory with `agent.mjs` and its `node_modules`. */
  agentBundle: string;
  /** Directory laid over the system root; brings `sbin/sprited-init`. */
  overlayDir: string;
  /** The Node that the agent runs on. */
  nodePath: string;
  openApt: () => Promise<PrivateApt>;
  onProgress: OnProgress;
  signal?: AbortSignal | undefined;
}

/** Builds the system image unless the same inputs were built before. Throws `DiskError`. */
export async function buildSystem(options: BuildSystemOptions): Promise<SystemImage> {
  const { layout, kernel, agentBundle, overlayDir, onProgress, signal } = options;
  const root = await ensureSystemRoot(options);
  const inputs = [PACKING_REVISION, root.digest, await sha256OfTree(agentBundle), await sha256OfTree(overlayDir)];
  const digest = sha256Hex(JSON.stringify(inputs));
  const present = await checkedSystem(layout, digest).catch(ignore("damaged: it is built anew"));
  if (present) {
    await writeFileAtomic(currentPath(layout), `${digest}\n`);
    return present;
  }

  onProgress({ step: "system", fraction: 0.6, detail: "packing" });
  const directory = systemDirectory(layout, digest);
  const temp = tempBeside(directory);
  try {
    await fs.mkdir(temp, { recursive: true });
    const tree = path.join(temp, "tree");
    // Hard links: the cached tree is large and stays as it is, because nothing below writes into a file.
    await run("cp", ["-al", root.tree, tree], { signal });
    await overlay(overlayDir, tree);
    await overlay(agentBundle, path.join(tree, AGENT_DIRECTORY));
    await requireInit(tree);
    await run("mkfs.erofs", ["-T0", "-x-1", "--all-root", "-U", uuidOf(digest), path.join(temp, "system.erofs"), tree], { signal });
    const modules = path.join(tree, "usr/lib/modules", kernel.release);
    await fs.writeFile(path.join(temp, "initrd.img"), await makeInitrd(modules, path.join(tree, "usr/bin/busybox")));
    await fs.copyFile(kernel.imagePath, path.join(temp, "vmlinuz"));
    await removeTree(tree, temp);
    const sizes: Record<string, number> = {};
    for (const file of FILES) {
      await fs.chmod(path.join(temp, file), 0o444);
      sizes[file] = (await fs.stat(path.join(temp, file))).size;
      await syncFile(path.join(temp, file));
    }
    const record = { digest, kernel: kernel.release, builtAt: new Date().toISOString(), sizes, packages: root.packages };
    await writeFileAtomic(path.join(temp, "system.json"), `${JSON.stringify(record, undefined, 1)}\n`);
    await removeTree(directory, systemsRoot(layout));
    await fs.rename(temp, directory);
    await syncDirectory(systemsRoot(layout));
  } finally {
    await removeTree(temp, systemsRoot(layout));
  }
  await writeFileAtomic(currentPath(layout), `${digest}\n`);
  onProgress({ step: "system", fraction: 1, detail: digest.slice(0, 12) });
  return systemImage(layout, digest);
}

/** The system image that new boots use; undefined before the first set-up. Throws `disk_damaged`. */
export async function loadSystem(layout: HomeLayout): Promise<SystemImage | undefined> {
  const text = await fs.readFile(currentPath(layout), "utf8").catch(ignore("not built yet"));
  if (text === undefined) return undefined;
  return loadSystemByDigest(layout, text.trim());
}

/** A system image that an older memory snapshot boots from. Throws `disk_damaged` when it is not whole. */
export async function loadSystemByDigest(layout: HomeLayout, digest: string): Promise<SystemImage> {
  const found = await checkedSystem(layout, digest);
  if (!found) throw new DiskError("disk_damaged", `the system image ${digest.slice(0, 12)} is missing: run set-up again`);
  return found;
}

async function checkedSystem(layout: HomeLayout, digest: string): Promise<SystemImage | undefined> {
  if (!/^[0-9a-f]{64}$/.test(digest)) return undefined;
  const directory = systemDirectory(layout, digest);
  const record = await readJson(path.join(directory, "system.json"), systemRecord);
  if (!record) return undefined;
  for (const file of FILES) {
    const stat = await fs.stat(path.join(directory, file)).catch(ignore("reported below"));
    if (stat?.size === record.sizes[file]) continue;
    throw new DiskError(
      "disk_damaged",
      `${file} of the system image ${digest.slice(0, 12)} is missing or has the wrong size: run set-up again`,
    );
  }
  return systemImage(layout, digest);
}

function systemImage(layout: HomeLayout, digest: string): SystemImage {
  const directory = systemDirectory(layout, digest);
  return {
    digest,
    kernelPath: path.join(directory, "vmlinuz"),
    initrdPath: path.join(directory, "initrd.img"),
    systemPath: path.join(directory, "system.erofs"),
  };
}

async function requireInit(tree: string): Promise<void> {
  const init = path.join(tree, "usr/sbin/sprited-init");
  const stat = await fs.stat(init).catch(ignore("reported below"));
  if (stat && (stat.mode & 0o111) !== 0) return;
  throw new DiskError("disk_build_failed", "the overlay brings no executable sbin/sprited-init: the system could not start");
}

/** Lays the files of `source` over `target`; what was there is replaced, never written into. */
async function overlay(source: string, target: string): Promise<void> {
  await fs.mkdir(target, { recursive: true });
  for (const entry of await fs.readdir(source, { withFileTypes: true })) {
    const from = path.join(source, entry.name);
    const to = await throughAlias(path.join(target, entry.name));
    if (entry.isDirectory()) {
      await overlay(from, to);
      continue;
    }
    await fs.rm(to, { force: true });
    if (entry.isSymbolicLink()) await fs.symlink(await fs.readlink(from), to);
    else await fs.copyFile(from, to);
  }
}

/** `sbin` is a link to `usr/sbin`: files meant for it go where it leads. */
async function throughAlias(target: string): Promise<string> {
  const link = await fs.readlink(target).catch(ignore("no link"));
  if (link === undefined || path.isAbsolute(link)) return target;
  const real = path.join(path.dirname(target), link);
  const stat = await fs.stat(real).catch(ignore("leads nowhere: it is replaced"));
  return stat?.isDirectory() ? real : target;
}

function uuidOf(digest: string): string {
  return `${digest.slice(0, 8)}-${digest.slice(8, 12)}-4${digest.slice(13, 16)}-8${digest.slice(17, 20)}-${digest.slice(20, 32)}`;
}

function systemsRoot(layout: HomeLayout): string {
  return path.join(layout.runtime, "system");
}

function systemDirectory(layout: HomeLayout, digest: string): string {
  return path.join(systemsRoot(layout), digest);
}

function currentPath(layout: HomeLayout): string {
  return path.join(systemsRoot(layout), "current");
}
