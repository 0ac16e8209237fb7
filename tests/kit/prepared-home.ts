/**
 * Homes for tests with real VMs. Building images takes minutes, so one *prepared* home (named by
 * `SPRITED_TEST_HOME`, else the one a plain `sprited` would use) is cloned: kernel and QEMU are
 * shared, images and boot snapshots are reflinks. Test homes live inside the prepared pool,
 * because only there cloning is free; the prepared home itself is never written to.
 */
import { createHash, randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, run } from "@sprited/base";
import { type HomeLayout, homeLayout } from "@sprited/disk";

/** Directory of all test homes, below the prepared pool. */
const TEST_HOMES = "tests";
/** Boot snapshots that earlier test homes made, for the next ones. */
const BOOT_CACHE = "boot-cache";
/** Image that test sprites are made of. */
export const TEST_IMAGE = "minimal";

/** The prepared home, or one sentence on why there is none. */
export function findPreparedHome(): { layout: HomeLayout } | { missing: string } {
  const root = path.resolve(process.env["SPRITED_TEST_HOME"] ?? process.env["SPRITED_HOME"] ?? "/var/lib/sprited");
  const layout = homeLayout(root);
  if (!existsSync(layout.runtime)) return { missing: `no prepared home at ${root} (set SPRITED_TEST_HOME to a home whose set-up is done)` };
  if (!existsSync(layout.images) || readdirSync(layout.images).length === 0) {
    return { missing: `the prepared home at ${root} has no images (its pool may not be mounted)` };
  }
  return { layout };
}

/** A home of one test file. */
export interface TestHome {
  layout: HomeLayout;
  /** 8 hex digits that occur in every name this home gives things on the host. */
  id: string;
  /** Gives boot snapshots to later homes, then removes the home. */
  remove(): Promise<void>;
}

/** Makes a home of its own that shares what the prepared one has built. */
export async function cloneHome(options: { withImages?: boolean } = {}): Promise<TestHome> {
  const prepared = findPreparedHome();
  if ("missing" in prepared) throw new Error(prepared.missing);
  const source = prepared.layout;
  const shelf = path.join(source.pool, TEST_HOMES);
  const cache = path.join(shelf, BOOT_CACHE);
  await fs.mkdir(cache, { recursive: true, mode: 0o711 });
  await fs.chmod(shelf, 0o711);
  const layout = homeLayout(path.join(shelf, randomBytes(3).toString("hex")));
  for (const directory of [layout.root, layout.pool, layout.images, layout.bootSnapshots]) await fs.mkdir(directory, { recursive: true, mode: 0o711 });
  await fs.symlink(source.runtime, layout.runtime);
  if (options.withImages !== false) await reflinkInto(source.images, layout.images);
  await reflinkInto(cache, layout.bootSnapshots);
  return {
    layout,
    id: createHash("sha256").update(layout.root).digest("hex").slice(0, 8),
    remove: async () => {
      await keepBootSnapshots(layout.bootSnapshots, cache);
      await fs.rm(layout.root, { recursive: true, force: true });
    },
  };
}

/** Removes every test home that an interrupted run left; not the cache. */
export async function removeAbandonedHomes(layout: HomeLayout, inUse: (home: string) => boolean): Promise<void> {
  const shelf = path.join(layout.pool, TEST_HOMES);
  for (const name of await fs.readdir(shelf).catch(() => [])) {
    const home = path.join(shelf, name);
    if (name !== BOOT_CACHE && !inUse(home)) await fs.rm(home, { recursive: true, force: true });
  }
}

async function reflinkInto(source: string, target: string): Promise<void> {
  const names = (await fs.readdir(source)).filter((name) => !name.endsWith(".tmp"));
  if (names.length > 0) await run("cp", ["-a", "--reflink=auto", "--sparse=always", ...names.map((name) => path.join(source, name)), target]);
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
