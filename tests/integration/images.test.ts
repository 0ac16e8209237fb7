/**
 * The pool and the images for real: loop-mounted XFS, packages from a Debian mirror, a built
 * image read back without mounting it. Needs root and a mirror; takes about a minute.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ignore, run, silentLogger, waitFor } from "@sprited/base";
import {
  DEFAULT_MIRROR,
  DEFAULT_SECURITY_MIRROR,
  type DiskPool,
  findQemu,
  findSweep,
  type HomeLayout,
  homeLayout,
  type ImageRecord,
  type ImageStore,
  loadSystem,
  openDiskPool,
  openImageStore,
  provisionRuntime,
  readManifest,
  runSweep,
  sweepUnfinished,
  verifyImage,
} from "@sprited/disk";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
const DEFINITIONS = path.resolve(import.meta.dirname, "../../images");
const NOTHING = { sprites: new Set<string>(), bootSnapshots: new Set<string>(), systems: new Set<string>() };

async function skipReason(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "needs root (loop devices, mounts)";
  const mirror = await fetch(`${DEFAULT_MIRROR}/dists/trixie/InRelease`, { method: "HEAD", signal: AbortSignal.timeout(10_000) }).catch(
    ignore("reported as a reason"),
  );
  return mirror?.ok === true ? undefined : "no Debian mirror can be reached";
}
const reason = await skipReason();
if (reason !== undefined) {
  if (process.env["SPRITED_TEST_REQUIRE_VM"] === "1") throw new Error(`images cannot be tested: ${reason}`);
  console.warn(`skipped, images cannot be tested: ${reason}`);
}

const undo: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

/** A directory of its own on the host's disk, not in the test pool: programs must run there. */
async function newHome(): Promise<HomeLayout> {
  const root = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-images-"));
  undo.push(() => fs.rm(root, { recursive: true, force: true }));
  const layout = homeLayout(root);
  undo.push(() => run("umount", [layout.pool]).catch(ignore("was not mounted")));
  return layout;
}

const openPool = (
  layout: HomeLayout,
  options: { poolSizeGb?: number; isRoot?: boolean; freeFloorBytes?: number } = {},
): Promise<DiskPool> => openDiskPool({ layout, poolSizeGb: 6, freeFloorBytes: 64 * MIB, isRoot: true, logger: silentLogger, ...options });

const openStore = (layout: HomeLayout, pool: DiskPool, mirror = DEFAULT_MIRROR): ImageStore =>
  openImageStore({
    layout,
    pool,
    definitions: DEFINITIONS,
    mirror,
    securityMirror: DEFAULT_SECURITY_MIRROR,
    isRoot: true,
    logger: silentLogger,
  });

/** A file system of `bytes` in memory, as a host disk that can be filled. */
async function smallDisk(bytes: number): Promise<string> {
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-small-"));
  await run("mount", ["-t", "tmpfs", "-o", `size=${bytes}`, "sprited-test", directory]);
  undo.push(() => fs.rm(directory, { recursive: true }));
  undo.push(() => run("umount", [directory]));
  return directory;
}

const loopsOf = async (layout: HomeLayout): Promise<string[]> => {
  const { stdout } = await run("losetup", ["--noheadings", "--output", "NAME", "--associated", layout.poolImagePath]);
  return stdout.split("\n").filter(Boolean);
};

describe.skipIf(reason !== undefined)("the pool", () => {
  let layout: HomeLayout;
  beforeAll(async () => {
    layout = await newHome();
  });

  test("[DISK-1] [DISK-3] is made, found again while mounted, and mounted again after a reboot", async () => {
    await fs.mkdir(layout.root, { recursive: true });
    const halfMade = path.join(layout.root, ".pool.img.making-999999999-00000000-00000000");
    await fs.writeFile(halfMade, "a killed mkfs");
    const first = await openPool(layout);
    if (first.reason.includes("home shares")) return;
    expect(first.cloneKind).toBe("reflink");
    expect(await fs.readdir(layout.root)).not.toContain(path.basename(halfMade));
    await fs.writeFile(path.join(layout.sprites, "kept"), "data");
    expect((await openPool(layout)).cloneKind).toBe("reflink");
    expect(await loopsOf(layout)).toHaveLength(1);

    await run("umount", [layout.pool]);
    expect(await loopsOf(layout)).toHaveLength(0);
    await openPool(layout);
    expect(await fs.readFile(path.join(layout.sprites, "kept"), "utf8")).toBe("data");
    const mounts = await fs.readFile("/proc/self/mountinfo", "utf8");
    const line = mounts.split("\n").find((one) => one.split(" ")[4] === layout.pool);
    for (const option of ["nosuid", "nodev", "noexec", "noatime", "discard"]) expect(line).toContain(option);
  });

  test("[DISK-3] a loop device that a killed start left attached is taken, not doubled", async () => {
    await run("umount", [layout.pool]);
    await run("losetup", ["--find", layout.poolImagePath]);
    await openPool(layout);
    expect(await loopsOf(layout)).toHaveLength(1);
  });

  test("[DISK-4] grows while mounted", async () => {
    const before = await (await openPool(layout)).freeBytes();
    const after = await (await openPool(layout, { poolSizeGb: 8 })).freeBytes();
    expect(after - before).toBeGreaterThan(1.8 * GIB);
    expect(await (await openPool(layout, { poolSizeGb: 3 })).freeBytes()).toBe(
      await (await openPool(layout, { poolSizeGb: 8 })).freeBytes(),
    );
  });

  test("[DISK-2] data below the mount point is not hidden", async () => {
    await run("umount", [layout.pool]);
    await fs.writeFile(path.join(layout.pool, "lost"), "x");
    await expect(openPool(layout)).rejects.toMatchObject({ code: "disk_pool" });
    await fs.rm(path.join(layout.pool, "lost"));
    await openPool(layout);
  });

  test("[DISK-5] clones share blocks and cost the same whatever the size", async () => {
    const pool = await openPool(layout);
    const timed = async (bytes: number): Promise<number> => {
      const source = path.join(layout.sprites, `source-${bytes}`);
      await fs.writeFile(source, randomBytes(8 * MIB));
      await fs.truncate(source, bytes);
      const free = await pool.freeBytes();
      const started = performance.now();
      for (let index = 0; index < 5; index += 1) await pool.clone(source, `${source}.${index}`);
      const took = performance.now() - started;
      expect(free - (await pool.freeBytes())).toBeLessThan(4 * MIB);
      await run("cmp", ["--bytes", String(16 * MIB), source, `${source}.4`]);
      expect((await fs.stat(`${source}.4`)).size).toBe(bytes);
      return took / 5;
    };
    const small = await timed(GIB);
    const large = await timed(100 * GIB);
    expect(large).toBeLessThan(small * 5 + 50);
  });

  test("[DISK-6] the disk below a sparse pool file counts", async () => {
    const home = homeLayout(path.join(await smallDisk(700 * MIB), "home"));
    await fs.mkdir(home.root);
    undo.push(() => run("umount", [home.pool]).catch(ignore("was not mounted")));
    const pool = await openPool(home, { poolSizeGb: 8 });
    if (pool.reason.includes("home shares")) return;
    expect(await pool.freeBytes()).toBeLessThan(700 * MIB);
    await expect(pool.requireSpace(GIB, "a test")).rejects.toMatchObject({
      code: "disk_full",
      message: expect.stringMatching(/a test needs 1\.0 GB, but only \d+ MB are free/) as unknown,
    });
    await run("umount", [home.pool]);
  });

  test("[DISK-7] a disk that fills up while copying is disk_full and nothing is left", async () => {
    const home = homeLayout(path.join(await smallDisk(64 * MIB), "home"));
    await fs.mkdir(home.root);
    const pool = await openPool(home, { isRoot: false });
    expect(pool.cloneKind).toBe("copy");
    const source = path.join(layout.root, "large");
    await fs.writeFile(source, randomBytes(100 * MIB));
    await expect(pool.clone(source, path.join(home.sprites, "disk.raw"))).rejects.toMatchObject({ code: "disk_full" });
    expect(await fs.readdir(home.sprites)).toEqual([]);
  });
});

describe.skipIf(reason !== undefined)("images", () => {
  let layout: HomeLayout;
  let pool: DiskPool;
  let store: ImageStore;
  let image: ImageRecord;
  const fractions: number[] = [];

  beforeAll(async () => {
    layout = await newHome();
    pool = await openPool(layout, { poolSizeGb: 8 });
    store = openStore(layout, pool);
    image = await store.build("minimal", { onProgress: ({ fraction }) => fractions.push(fraction ?? 0) });
  });
  const raw = (): string => path.join(image.directory, "image.raw");
  const inImage = async (command: string): Promise<string> => (await run("debugfs", ["-R", command, raw()])).stdout;

  test("[IMG-9] progress never goes back and ends at 1", () => {
    expect(fractions.length).toBeGreaterThan(50);
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect(fractions.at(-1)).toBe(1);
    expect(fractions.filter((fraction) => fraction === 1)).toHaveLength(1);
  });

  test("[IMG-2] is small", () => {
    expect(image.contentBytes).toBeLessThan(400 * MIB);
  });

  test("[IMG-4] the manifest lists packages by source, beside and in the image", async () => {
    const manifest = await readManifest(image.manifestPath);
    expect(manifest.digest).toBe(image.digest);
    const names = manifest.packages.apt.map((one) => one.name);
    expect(names).toEqual(expect.arrayContaining(["bash", "coreutils", "apt", "sudo", "procps", "curl", "python3-minimal"]));
    expect(manifest.packages.apt.every((one) => one.version !== "")).toBe(true);
    expect(await inImage("cat /usr/share/sprited/manifest.json")).toBe(await fs.readFile(image.manifestPath, "utf8"));
  });

  test("[IMG-5] user, sudo, identity, sources, and nothing of the build", async () => {
    expect(await inImage("cat /etc/passwd")).toContain("sprite:x:1001:1001::/home/sprite:/bin/bash");
    expect(await inImage("stat /home/sprite")).toMatch(/User:\s+1001\s+Group:\s+1001/);
    expect(await inImage("cat /etc/sudoers.d/sprite")).toContain("NOPASSWD:ALL");
    expect(await inImage("stat /etc/sudoers.d/sprite")).toMatch(/Mode:\s+0440/);
    expect(await inImage("stat /usr/bin/sudo")).toMatch(/Mode:\s+04755/);
    expect(await inImage("cat /etc/machine-id")).toBe("");
    expect(await inImage("cat /etc/resolv.conf")).toBe("nameserver 10.117.0.1\n");
    expect(await inImage("cat /etc/apt/sources.list.d/debian.sources")).toContain("http://deb.debian.org/debian");
    for (const gone of ["/usr/sbin/policy-rc.d", "/etc/apt/sources.list", "/etc/apt/apt.conf.d/99mmdebstrap", "/var/tmp/sprited-build"]) {
      expect(await inImage(`stat ${gone}`), gone).toBe("");
    }
    expect(await inImage("ls /var/cache/apt/archives")).not.toContain(".deb");
    expect(await inImage("ls /etc/ssh")).not.toContain("host_");
  });

  test("[IMG-3] is not built again, and needs no network for that", async () => {
    const offline = openStore(layout, pool, "http://127.0.0.1:9/debian");
    const again = await offline.build("minimal", { onProgress: () => {} });
    expect(again).toEqual(image);
  });

  test("[IMG-6] sizes are made once, sparse, within the limits, and at once for several callers", async () => {
    const used = await pool.freeBytes();
    const [one, two] = await Promise.all([store.disk(image, 100), store.disk(image, 100)]);
    expect(one).toBe(two);
    expect((await fs.stat(one)).size).toBe(100 * GIB);
    expect(used - (await pool.freeBytes())).toBeLessThan(16 * MIB);
    const made = await fs.stat(one);
    expect((await fs.stat(await store.disk(image, 100))).mtimeMs).toBe(made.mtimeMs);
    for (const size of [4, 2001, 7.5, Number.NaN]) await expect(store.disk(image, size)).rejects.toMatchObject({ code: "disk_size" });
    expect((await fs.stat(await store.disk(image, 5))).size).toBe(5 * GIB);
  });

  test("[IMG-6] a damaged size is made again, a damaged image is not used", async () => {
    const disk = await store.disk(image, 5);
    await fs.truncate(disk, 4096);
    expect((await fs.stat(await store.disk(image, 5))).size).toBe(5 * GIB);

    const kept = `${raw()}.kept`;
    await fs.rename(raw(), kept);
    await expect(store.disk(image, 6)).rejects.toMatchObject({ code: "disk_damaged" });
    await fs.copyFile(kept, raw());
    const file = await fs.open(raw(), "r+");
    await file.write(Buffer.alloc(4096, 0xff), 0, 4096, 8192);
    await file.close();
    await expect(store.disk(image, 6)).rejects.toMatchObject({ code: "disk_damaged" });
    expect((await verifyImage(image)).damage).toContain("image.raw");
    await fs.rename(kept, raw());
    expect((await verifyImage(image)).damage).toBeUndefined();
  });

  test("[IMG-7] an unknown image is told from a damaged one", async () => {
    await expect(store.get("nope")).rejects.toMatchObject({ code: "disk_image_unknown" });
    await expect(store.byDigest("0".repeat(64))).rejects.toMatchObject({ code: "disk_image_unknown" });
    await expect(store.byDigest("../../etc")).rejects.toMatchObject({ code: "disk_image_unknown" });
    await expect(store.build("nope", { onProgress: () => {} })).rejects.toMatchObject({ code: "disk_image_unknown" });
  });

  test("[IMG-1] a package that Debian does not have is named", async () => {
    const definition = path.join(layout.root, "own.toml");
    await fs.writeFile(definition, 'name = "own"\nsuite = "trixie"\n[apt.packages]\nmine = ["there-is-no-such-package"]\n');
    await expect(store.build("own", { definitionPath: definition, onProgress: () => {} })).rejects.toMatchObject({
      code: "disk_image_invalid",
      message: expect.stringContaining("there-is-no-such-package") as unknown,
    });
  });

  test("[IMG-8] a build that fails late or is aborted leaves nothing", async () => {
    const definition = path.join(layout.root, "own.toml");
    await fs.writeFile(definition, 'name = "own"\nsuite = "trixie"\nrun = ["exit 7"]\n');
    await expect(store.build("own", { definitionPath: definition, onProgress: () => {} })).rejects.toMatchObject({
      code: "disk_build_failed",
    });
    const abort = new AbortController();
    const aborted = store.build("own", {
      definitionPath: definition,
      signal: abort.signal,
      onProgress: ({ fraction = 0 }) => {
        if (fraction > 0.1) abort.abort(new Error("no longer wanted"));
      },
    });
    await expect(aborted).rejects.toThrow("no longer wanted");
    expect((await fs.readdir(layout.images)).filter((name) => name !== image.digest)).toEqual([]);
    expect(await fs.readdir(path.join(layout.cache, "build"))).toEqual([]);
    expect(await findSweep(layout, NOTHING)).toEqual([]);
  });

  test("[IMG-8] a killed build leaves no process and no mount, and the next one sweeps its files", async () => {
    const home = await newHome();
    const child = spawn(process.execPath, [fileURLToPath(new URL("./image-build-child.ts", import.meta.url)), home.root], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const closed = once(child, "close");
    for await (const chunk of child.stdout) if (/unpacking|setting up/.test(String(chunk))) child.kill("SIGKILL");
    await closed;
    const left = (await findSweep(home, {})).map((item) => item.path);
    expect(left.length).toBeGreaterThan(0);
    const busy = async (): Promise<string[]> => {
      const { stdout } = await run("ps", ["-eo", "args"]);
      const mounts = await fs.readFile("/proc/self/mountinfo", "utf8");
      return [...stdout.split("\n"), ...mounts.split("\n")].filter((line) => left.some((directory) => line.includes(directory)));
    };
    await waitFor("the build to be gone", { timeoutMs: 10_000, everyMs: 100 }, async () => (await busy()).length === 0);
    expect(await sweepUnfinished(home)).toHaveLength(left.length);
    expect(await findSweep(home, {})).toEqual([]);
  });

  test("[DISK-6] a build that cannot fit does not begin", async () => {
    const definition = path.join(layout.root, "own.toml");
    await fs.writeFile(definition, 'name = "own"\nsuite = "trixie"\n');
    const greedy = openStore(layout, await openPool(layout, { poolSizeGb: 8, freeFloorBytes: (await pool.freeBytes()) - 10 * MIB }));
    await expect(greedy.build("own", { definitionPath: definition, onProgress: () => {} })).rejects.toMatchObject({
      code: "disk_full",
      message: expect.stringMatching(/needs .* but only .* are free/) as unknown,
    });
  });
});

describe.skipIf(reason !== undefined)("the system image", () => {
  test("[IMG-11] [IMG-13] [IMG-14] is made from Debian's packages, again only for new inputs, and the old one stays until it is swept", async () => {
    const layout = await newHome();
    const overlayDir = path.join(layout.root, "overlay");
    const agentBundle = path.join(layout.root, "agent");
    await fs.mkdir(path.join(overlayDir, "sbin"), { recursive: true });
    await fs.writeFile(path.join(overlayDir, "sbin/sprited-init"), "#!/bin/busybox sh\n", { mode: 0o755 });
    await fs.mkdir(agentBundle);
    await fs.writeFile(path.join(agentBundle, "agent.mjs"), "1;\n");
    const hostLists = await fs.readdir("/var/lib/apt/lists");
    const make = async (): Promise<string> =>
      (await provisionRuntime({ layout, agentBundle, overlayDir, onProgress: () => {} })).system.digest;

    const first = await make();
    expect(await fs.readdir("/var/lib/apt/lists")).toEqual(hostLists);
    expect((await findQemu(layout))?.version).toMatch(/version (8\.[2-9]|9|1\d)/);
    const started = performance.now();
    expect(await make()).toBe(first);
    expect(performance.now() - started).toBeLessThan(10_000);

    await fs.writeFile(path.join(agentBundle, "agent.mjs"), "2;\n");
    const second = await make();
    expect(second).not.toBe(first);
    const system = await loadSystem(layout);
    expect(system?.digest).toBe(second);
    const { stdout } = await run("dump.erofs", ["--path=/usr/lib/sprited/agent/agent.mjs", system!.systemPath]);
    expect(stdout).toContain("agent.mjs");

    const items = await findSweep(layout, NOTHING);
    expect(items.map((item) => path.basename(item.path))).toEqual([first]);
    expect(await findSweep(layout, { ...NOTHING, systems: new Set([first]) })).toEqual([]);
    await runSweep(layout, items);

    await fs.truncate(system!.initrdPath, 10);
    await expect(loadSystem(layout)).rejects.toMatchObject({ code: "disk_damaged" });
    expect(await make()).toBe(second);
    expect((await loadSystem(layout))?.digest).toBe(second);
  });
});
