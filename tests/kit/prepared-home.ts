/**
 * Homes for tests with real VMs. Building images takes minutes, so one *prepared* home (named by
 * `SPRITED_TEST_HOME`, else the one a plain `sprited` would use) is cloned by reflinks. Test homes
 * live inside the prepared pool, because only there cloning is free; nothing else of the prepared
 * home is ever written to. A daemon may sweep whatever it finds in its own home.
 */
import { createHash, randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, run } from "@sprited/base";
import { type HomeLayout, homeLayout } from "@sprited/disk";

/** Directory of all test homes, below the prepared pool. */
export const TEST_HOMES = "tests";
/** Boot snapshots that earlier test homes made, for the next ones. */
const BOOT_CACHE = "boot-cache";
/** System images inside the pool, where cloning them is free. */
const SYSTEM_CACHE = "system-";
/** Which test process a home belongs to. */
export const OWNER_FILE = "owner";
/** Age of a copy that no run can still be cloning, ms. */
const OLD_AFTER_MS = 3_600_000;
/** Image that test sprites are made of. */
export const TEST_IMAGE = "minimal";

/** Where a prepared home is looked for when nothing names one: that of `npm test`, that of a plain daemon. */
const USUAL_HOMES = ["/var/tmp/sprited-test", "/var/lib/sprited"];

/** The prepared home, or one sentence on why there is none. */
export function findPreparedHome(): { layout: HomeLayout } | { missing: string } {
  const named = process.env["SPRITED_TEST_HOME"] ?? process.env["SPRITED_HOME"];
  const reasons: string[] = [];
  for (const root of named === undefined ? USUAL_HOMES : [path.resolve(named)]) {
    const layout = homeLayout(root);
    if (!existsSync(path.join(layout.runtime, "system", "current"))) reasons.push(`no prepared home at ${root}`);
    else if (!existsSync(layout.images) || readdirSync(layout.images).length === 0)
      reasons.push(`the home at ${root} has no images (its pool may not be mounted)`);
    else return { layout };
  }
  return { missing: `${reasons.join("; ")}; set SPRITED_TEST_HOME to a home whose set-up is done` };
}

/** Whether an image of that name has been built in the prepared home. */
export function hasPreparedImage(image: string): boolean {
  const found = findPreparedHome();
  if ("missing" in found) return false;
  return readdirSync(found.layout.images).some((name) => {
    const file = path.join(found.layout.images, name, "image.json");
    return existsSync(file) && (JSON.parse(readFileSync(file, "utf8")) as { name?: string }).name === image;
  });
}

/** A home of one test file. */
export interface TestHome {
  layout: HomeLayout;
  /** 8 hex digits that occur in every name this home gives things on the host. */
  id: string;
  /** Gives boot snapshots to later homes, then removes the home. */
  remove(): Promise<void>;
}

/** Names a process for as long as the host runs; empty when it is gone. */
export async function processIdentity(pid: number): Promise<string> {
  const stat = await fs.readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  const startTicks = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  return startTicks === undefined ? "" : `${pid} ${startTicks}`;
}

/** A home by its directory. */
export function describeHome(root: string): Omit<TestHome, "remove"> {
  return { layout: homeLayout(root), id: createHash("sha256").update(root).digest("hex").slice(0, 8) };
}

/** Makes a home of its own that shares what the prepared one has built. */
export async function cloneHome(options: { withImages?: boolean; image?: string | undefined } = {}): Promise<TestHome> {
  const found = findPreparedHome();
  if ("missing" in found) throw new Error(found.missing);
  const source = found.layout;
  const shelf = path.join(source.pool, TEST_HOMES);
  const cache = path.join(shelf, BOOT_CACHE);
  await fs.mkdir(cache, { recursive: true, mode: 0o711 });
  await fs.chmod(shelf, 0o711);
  const layout = homeLayout(path.join(shelf, randomBytes(3).toString("hex")));
  for (const directory of [layout.root, layout.pool, layout.images, layout.bootSnapshots])
    await fs.mkdir(directory, { recursive: true, mode: 0o711 });
  await fs.writeFile(path.join(layout.root, OWNER_FILE), await processIdentity(process.pid));
  await cloneRuntime(source, shelf, layout.runtime);
  if (options.withImages !== false) await reflinkInto(source.images, layout.images, await imageDirectories(source.images, options.image));
  const cached = await fs.readdir(cache);
  const prepared = await fs.readdir(source.bootSnapshots).catch(() => []);
  await reflinkInto(cache, layout.bootSnapshots, cached);
  await reflinkInto(
    source.bootSnapshots,
    layout.bootSnapshots,
    prepared.filter((name) => !cached.includes(name)),
  );
  return {
    ...describeHome(layout.root),
    remove: async () => {
      await keepBootSnapshots(layout.bootSnapshots, cache);
      await fs.rm(layout.root, { recursive: true, force: true });
    },
  };
}

/** Size in GB that the prepared image was made for; undefined when it has none yet. */
export async function preparedStorageGb(image = TEST_IMAGE): Promise<number | undefined> {
  const found = findPreparedHome();
  if ("missing" in found) return undefined;
  const sizes: number[] = [];
  for (const name of await imageDirectories(found.layout.images, image)) {
    for (const file of await fs.readdir(path.join(found.layout.images, name))) {
      const size = /^image-(\d+)g\.raw$/.exec(file)?.[1];
      if (size !== undefined) sizes.push(Number(size));
    }
  }
  return sizes.length === 0 ? undefined : Math.min(...sizes);
}

/** The accelerator that the prepared home's set-up found; undefined when it has not looked. */
export async function preparedAccelerator(): Promise<string | undefined> {
  const prepared = findPreparedHome();
  if ("missing" in prepared) return undefined;
  const text = await fs.readFile(path.join(prepared.layout.runtime, "accelerator.json"), "utf8").catch(() => "{}");
  return (JSON.parse(text) as { kind?: string }).kind;
}

/**
 * Kernel and QEMU are shared: pools are mounted without the right to execute. The system image
 * is a clone, since a daemon sweeps old ones.
 */
async function cloneRuntime(source: HomeLayout, shelf: string, runtime: string): Promise<void> {
  await fs.mkdir(path.join(runtime, "system"), { recursive: true, mode: 0o755 });
  for (const entry of await fs.readdir(source.runtime)) {
    if (entry !== "system" && entry !== "accelerator.json") await fs.symlink(path.join(source.runtime, entry), path.join(runtime, entry));
  }
  const current = (await fs.readFile(path.join(source.runtime, "system", "current"), "utf8")).trim();
  await run("cp", ["-a", "--reflink=auto", await systemInPool(source, shelf, current), path.join(runtime, "system", current)]);
  await fs.writeFile(path.join(runtime, "system", "current"), `${current}\n`);
}

/** A copy of the system image that can be cloned; made once for each. */
async function systemInPool(source: HomeLayout, shelf: string, digest: string): Promise<string> {
  const name = SYSTEM_CACHE + digest;
  const copy = path.join(shelf, name);
  if (existsSync(copy)) return copy;
  await removeOldSystems(shelf);
  const building = path.join(shelf, `.${name}.${randomBytes(3).toString("hex")}`);
  await run("cp", ["-a", "--reflink=auto", path.join(source.runtime, "system", digest), building]);
  await fs.rename(building, copy).catch(ignore("another test file was faster"));
  await fs.rm(building, { recursive: true, force: true });
  return copy;
}

/** Copies of states that are past; young ones may be in use by a parallel run. */
async function removeOldSystems(shelf: string): Promise<void> {
  for (const name of await fs.readdir(shelf)) {
    if (!name.startsWith(SYSTEM_CACHE) && !name.startsWith(`.${SYSTEM_CACHE}`)) continue;
    const { ctimeMs } = await fs.stat(path.join(shelf, name));
    if (Date.now() - ctimeMs > OLD_AFTER_MS) await fs.rm(path.join(shelf, name), { recursive: true, force: true });
  }
}

/** Directories of the image that test sprites are made of. */
async function imageDirectories(images: string, image = TEST_IMAGE): Promise<string[]> {
  const found: string[] = [];
  for (const name of await fs.readdir(images)) {
    const text = await fs.readFile(path.join(images, name, "image.json"), "utf8").catch(() => "{}");
    if ((JSON.parse(text) as { name?: string }).name === image) found.push(name);
  }
  return found;
}

async function reflinkInto(source: string, target: string, names: readonly string[]): Promise<void> {
  const paths = names.filter((name) => !name.endsWith(".tmp")).map((name) => path.join(source, name));
  if (paths.length > 0) await run("cp", ["-a", "--reflink=auto", "--sparse=always", ...paths, target]);
}

/** Adds finished snapshots to the cache, each appearing whole or not at all. */
async function keepBootSnapshots(made: string, cache: string): Promise<void> {
  const known = new Set(await fs.readdir(cache));
  for (const name of await fs.readdir(made).catch(() => [])) {
    if (known.has(name) || name.endsWith(".tmp") || !existsSync(path.join(made, name, "meta.json"))) continue;
    const building = path.join(cache, `${name}.${randomBytes(3).toString("hex")}.tmp`);
    await run("cp", ["-a", "--reflink=auto", path.join(made, name), building]);
    await fs.rename(building, path.join(cache, name)).catch(ignore("another test file was faster"));
    await fs.rm(building, { recursive: true, force: true });
  }
}
