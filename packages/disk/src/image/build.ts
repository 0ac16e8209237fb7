/**
 * Builds an image: Debian packages by mmdebstrap, npm packages by the host's npm, the definition's
 * files and commands, all into a tree, and the tree into a raw ext4 file. Nothing is mounted in the
 * host's view. Without root packages are installed and the tree is kept in user namespaces.
 *
 * The tree lies below the cache, because nothing may be executed in the pool; the finished files are
 * made under a temporary name in the pool and renamed at the end. A build is whole or leaves
 * nothing but names that the sweep knows.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, run, RunError } from "@sprited/base";
import { hostAptProxy, networkEnvironment } from "../apt/host-network.ts";
import type { AptSource, PrivateApt } from "../apt/private-apt.ts";
import { sha256Hex } from "../clone/digest.ts";
import { asDiskError } from "../clone/fs-error.ts";
import { DiskError } from "../errors.ts";
import { removeTree, syncDirectory, syncFile, tempBeside, writeFileAtomic } from "../layout/atomic.ts";
import type { HomeLayout } from "../layout/home.ts";
import { readJson } from "../layout/record.ts";
import { sweepUnfinished } from "../layout/sweep.ts";
import { requireTreeOwner, runAsTreeOwner } from "../layout/tree-owner.ts";
import type { DiskPool, OnProgress } from "../pool/pool.ts";
import { freeOf, requireFree } from "../pool/space.ts";
import { aptPackages, type ImageDefinition } from "./definition.ts";
import { imageBytes, mkfsArgs, toolFailed } from "./ext4.ts";
import { InstallProgress } from "./install-progress.ts";
import { imageManifest, type ImageManifest, parseDpkgStatus } from "./manifest.ts";
import { fetchNpmPackages, type NpmPackages } from "./npm.ts";
import { bootstrapArgs, type BootstrapPaths, earlyFiles, MANIFEST_IN_IMAGE, overlayFiles, type TreeFile } from "./recipe.ts";
import { type ImageRecordFile, recordFile } from "./record.ts";

/** Raised when the same definition gives another image. */
export const IMAGE_REVISION = 1;

const BOOTSTRAP_TIMEOUT_MS = 60 * 60_000;
/** What a Debian package takes when installed, per byte fetched, from the two shipped images. */
const INSTALLED_PER_FETCHED = 4;
/** Bytes for Node, npm and a large native program from the npm registry. */
const NPM_BYTES = 700 * 1024 ** 2;
/** Characters kept of a line of output, for the log. */
const LINE_KEPT = 300;
/** Ends a build when this program is killed, so that it does not go on in a directory nobody wants. */
const APART = ["--pdeathsig", "KILL", "--"];
/**
 * Namespaces of its own for a build as root: what it mounts is never seen by the host, and neither
 * mounts nor processes outlive it, however it ends. (Without root mmdebstrap does this itself.)
 */
const AS_ROOT_APART = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"];
/** Packages that every Debian has and the private apt does not count. */
const ESSENTIAL = "?essential";

export interface BuildOptions {
  layout: HomeLayout;
  pool: DiskPool;
  isRoot: boolean;
  sources: readonly AptSource[];
  openApt: () => Promise<PrivateApt>;
  onProgress: OnProgress;
  signal?: AbortSignal | undefined;
}

/** Digest that decides whether an earlier build can be used again. */
export function definitionDigest(definition: ImageDefinition): string {
  return sha256Hex(JSON.stringify([IMAGE_REVISION, definition]));
}

/** Builds and returns the finished directory's record. Throws `DiskError`; then nothing is left. */
export async function buildImage(definition: ImageDefinition, options: BuildOptions): Promise<ImageRecordFile> {
  const { layout, pool, onProgress, signal } = options;
  const step = `image ${definition.name}`;
  const temp = tempBeside(path.join(layout.cache, "build", definition.name));
  const out = tempBeside(path.join(layout.images, definition.name));
  try {
    await requireTreeOwner(options.isRoot);
    // A killed build may have left gigabytes: they go before the space is counted.
    await sweepUnfinished(layout);
    onProgress({ step, fraction: 0, detail: "counting packages" });
    const apt = await options.openApt();
    const plan = await apt.plan([ESSENTIAL, "apt", ...aptPackages(definition)], { signal });
    const needed = plan.downloadBytes * (1 + INSTALLED_PER_FETCHED * 2) + (definition.npm ? NPM_BYTES * 3 : 0);
    await pool.requireSpace(needed, `building the image ${definition.name}`);
    await fs.mkdir(temp, { recursive: true });
    requireFree(await freeOf(temp), needed, { purpose: `building the image ${definition.name}`, where: layout.cache, reserve: 0 });

    const npm = definition.npm ? await npmStep(definition.npm, { temp, layout, onProgress, step, signal }) : undefined;
    const tree = path.join(temp, "tree");
    const target = options.isRoot ? tree : `${tree}.tar`;
    const paths = await writeInputs(definition, npm, { temp, target, signal });
    await installTree(definition, { ...options, paths, expectedPackages: plan.packages, step });
    if (!options.isRoot) await unpackTree(target, tree, signal);
    onProgress({ step, fraction: 0.9, detail: "writing the file system" });
    return await pack(definition, npm?.packages ?? [], { ...options, out, tree });
  } catch (error) {
    if (error instanceof RunError) throw toolFailed(`building the image ${definition.name}`, error);
    throw asDiskError(error, `building the image ${definition.name}`);
  } finally {
    await removeBuild(temp, options);
    await removeTree(out, layout.images);
  }
}

async function npmStep(
  npm: NonNullable<ImageDefinition["npm"]>,
  options: { temp: string; layout: HomeLayout; onProgress: OnProgress; step: string; signal: AbortSignal | undefined },
): Promise<NpmPackages> {
  options.onProgress({ step: options.step, fraction: 0.02, detail: "fetching from the npm registry" });
  const cache = path.join(options.layout.cache, "npm");
  const packages = await fetchNpmPackages(npm, { directory: path.join(options.temp, "npm"), cache, signal: options.signal });
  await removeTree(cache, options.layout.cache);
  return packages;
}

/** Packs everything that comes into the tree as tar files owned by root. */
async function writeInputs(
  definition: ImageDefinition,
  npm: NpmPackages | undefined,
  options: { temp: string; target: string; signal: AbortSignal | undefined },
): Promise<BootstrapPaths> {
  const { temp, target, signal } = options;
  const pack = async (name: string, directory: string): Promise<string> => {
    const file = path.join(temp, `${name}.tar`);
    await run(
      "tar",
      [
        "--create",
        "--file",
        file,
        "--directory",
        directory,
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--no-recursion",
        "--null",
        "--files-from=-",
      ],
      {
        input: (await listEntries(directory)).join("\0"),
        timeoutMs: BOOTSTRAP_TIMEOUT_MS,
        signal,
      },
    );
    return file;
  };
  const early = earlyFiles(definition);
  const npmTar = npm ? await pack("npm", npm.directory) : undefined;
  if (npm) await removeTree(npm.directory, temp);
  await writeFiles(path.join(temp, "overlay"), overlayFiles(definition));
  if (early.length > 0) await writeFiles(path.join(temp, "early"), early);
  return {
    target,
    npmTar,
    overlayTar: await pack("overlay", path.join(temp, "overlay")),
    earlyTar: early.length === 0 ? undefined : await pack("early", path.join(temp, "early")),
  };
}

/** Files and links below `directory`; directories stay as the image has them. */
async function listEntries(directory: string): Promise<string[]> {
  const entries = await fs.readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)));
}

async function writeFiles(directory: string, files: readonly TreeFile[]): Promise<void> {
  for (const file of files) {
    const target = path.join(directory, file.path);
    await fs.mkdir(path.dirname(target), { recursive: true });
    await fs.rm(target, { force: true });
    await fs.writeFile(target, file.content);
    await fs.chmod(target, file.mode);
  }
}

async function installTree(
  definition: ImageDefinition,
  options: BuildOptions & { paths: BootstrapPaths; expectedPackages: number; step: string },
): Promise<void> {
  const { paths, sources, onProgress, step, signal, isRoot } = options;
  const progress = new InstallProgress(options.expectedPackages);
  const args = bootstrapArgs(definition, { paths, isRoot, sources, aptSettings: await hostAptProxy() });
  const tail: string[] = [];
  try {
    await run("setpriv", [...APART, ...(isRoot ? AS_ROOT_APART : []), "mmdebstrap", ...args], {
      timeoutMs: BOOTSTRAP_TIMEOUT_MS,
      signal,
      // Without root mmdebstrap works as a user that may not enter the home.
      env: { ...networkEnvironment(), TMPDIR: isRoot ? path.dirname(paths.target) : "/var/tmp" },
      onLine: (line) => {
        tail.push(line.slice(0, LINE_KEPT));
        if (tail.length > 40) tail.shift();
        const detail = progress.take(line);
        if (detail !== undefined) onProgress({ step, fraction: 0.05 + 0.85 * progress.fraction, detail });
      },
    });
  } catch (cause) {
    if (!(cause instanceof RunError)) throw cause;
    // The whole output is far too long for a log; its end says why.
    throw toolFailed(
      `installing the packages of the image ${definition.name}`,
      new RunError("mmdebstrap", { exitCode: cause.exitCode, stderr: tail.join("\n"), why: "failed" }),
    );
  }
}

/** Unpacks what mmdebstrap packed, with its owners; device nodes are neither possible nor wanted. */
async function unpackTree(tar: string, tree: string, signal: AbortSignal | undefined): Promise<void> {
  await fs.mkdir(tree);
  await runAsTreeOwner(
    ["tar", "--extract", "--preserve-permissions", "--numeric-owner", "--exclude=./dev/*", "--file", tar, "--directory", tree],
    { isRoot: false, signal },
  );
  await fs.rm(tar);
}

async function pack(
  definition: ImageDefinition,
  npm: NpmPackages["packages"],
  options: BuildOptions & { out: string; tree: string },
): Promise<ImageRecordFile> {
  const { layout, pool, isRoot, out, tree, signal } = options;
  const apt = parseDpkgStatus(await fs.readFile(path.join(tree, "var/lib/dpkg/status"), "utf8"));
  const digest = sha256Hex(JSON.stringify([IMAGE_REVISION, definition, apt, npm]));
  const manifest: ImageManifest = {
    format: 1,
    name: definition.name,
    digest,
    built_at: new Date().toISOString(),
    definition,
    packages: { apt, npm },
  };
  await fs.mkdir(out);
  await fs.writeFile(path.join(out, "manifest.json"), `${JSON.stringify(imageManifest.parse(manifest), undefined, 1)}\n`);
  await runAsTreeOwner(["install", "-D", "-m", "0644", path.join(out, "manifest.json"), path.join(tree, MANIFEST_IN_IMAGE)], {
    isRoot,
    signal,
  });

  const { contentBytes, entries } = await measure(tree, isRoot, signal);
  const bytes = imageBytes(contentBytes, entries);
  await pool.requireSpace(contentBytes * 1.1, `writing the image ${definition.name}`);
  const raw = path.join(out, "image.raw");
  await runAsTreeOwner(["mke2fs", ...mkfsArgs({ tree, target: raw, bytes, uuid: uuidOf(digest), label: "sprite" })], { isRoot, signal });
  await fs.chmod(raw, 0o444);
  await syncFile(raw);

  const record: ImageRecordFile = {
    format: 1,
    name: definition.name,
    digest,
    definition_digest: definitionDigest(definition),
    built_at: manifest.built_at,
    content_bytes: contentBytes,
    image: await recordFile(raw, { full: true, signal }),
  };
  await writeFileAtomic(path.join(out, "image.json"), `${JSON.stringify(record, undefined, 1)}\n`);
  await putInPlace(out, path.join(layout.images, digest), layout);
  return record;
}

/** Renames the finished directory; an older one of the same digest (a damaged one) makes room. */
async function putInPlace(finished: string, target: string, layout: HomeLayout): Promise<void> {
  const older = tempBeside(target);
  const present = await fs.rename(target, older).then(
    () => true,
    () => false,
  );
  await fs.rename(finished, target);
  await syncDirectory(layout.images);
  if (present) await removeTree(older, layout.images);
}

async function measure(tree: string, isRoot: boolean, signal: AbortSignal | undefined): Promise<{ contentBytes: number; entries: number }> {
  const du = async (...how: string[]): Promise<number> =>
    Number((await runAsTreeOwner(["du", "--summarize", ...how, tree], { isRoot, signal })).split("\t")[0]);
  return { contentBytes: await du("--block-size=1"), entries: await du("--inodes") };
}

/** Removes a build's directory, whoever owns what is in it. */
export async function removeBuild(temp: string, options: { layout: HomeLayout; isRoot: boolean }): Promise<void> {
  const begun = await fs.stat(temp).catch(ignore("nothing was begun"));
  if (begun && !options.isRoot) await runAsTreeOwner(["rm", "-rf", "--", temp], { isRoot: false });
  await removeTree(temp, options.layout.cache);
}

function uuidOf(digest: string): string {
  return `${digest.slice(0, 8)}-${digest.slice(8, 12)}-4${digest.slice(13, 16)}-8${digest.slice(17, 20)}-${digest.slice(20, 32)}`;
}

/** Manifest beside an image. Throws `disk_damaged`. */
export async function readManifest(file: string): Promise<ImageManifest> {
  const manifest = await readJson(file, imageManifest);
  if (!manifest) throw new DiskError("disk_damaged", `the manifest ${file} is missing: build the image again`);
  return manifest;
}
