/**
 * Boot snapshots: the memory of a VM that has booted and mounted nothing of a user's. One per
 * (VMM build, system image, shape, disk size, with or without network); made once, resumed by
 * every create and cold wake. A kernel boots only here.
 *
 * On disk: `pool/boot/<key>/{ram,state,meta.json}`. `meta.json` is written last; a directory
 * without it is a killed attempt and is removed. Making one is single-flight per key.
 */
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, type Logger, Scope, withDeadline } from "@sprited/base";
import { type DiskPool, type OnProgress, type SystemImage, tempBeside } from "@sprited/disk";
import { BOOT_PORT } from "@sprited/protocol/guest";
import { type MemorySnapshot, type NetworkSlots, VmmError, type VmmDriver, type VmShape } from "@sprited/vmm";
import { z } from "zod";
import { awaitIdle } from "../guest/index.ts";
import { vmSpec } from "./vm-spec.ts";

export interface BootSnapshot {
  memory: MemorySnapshot;
  system: SystemImage;
}

export interface BootShape {
  shape: VmShape;
  storageGb: number;
}

export interface BootSnapshots {
  /** The snapshot of that form, made now if there is none. Concurrent callers share one making. */
  get(form: BootShape, options?: { signal?: AbortSignal; onProgress?: OnProgress }): Promise<BootSnapshot>;
  /** Keys of the snapshots on disk that this VMM build and system image can resume. */
  usable(): Promise<ReadonlySet<string>>;
}

export interface BootSnapshotsOptions {
  driver: VmmDriver;
  slots: NetworkSlots | undefined;
  pool: DiskPool;
  system: SystemImage;
  directory: string;
  runDirectory: string;
  /** A kernel's boot until its agent idles, ms; emulation is slow. */
  bootTimeoutMs: number;
  logger: Logger;
}

const META_FILE = "meta.json";
const meta = z.object({
  format: z.literal(1),
  build: z.string(),
  system: z.string(),
  ramBytes: z.int(),
  stateBytes: z.int(),
});

export function openBootSnapshots(options: BootSnapshotsOptions): BootSnapshots {
  const ready = new Map<string, Promise<BootSnapshot>>();
  return {
    get: async (form, call) => {
      const key = snapshotKey(options, form);
      let snapshot = ready.get(key);
      if (!snapshot) {
        snapshot = loadOrMake(options, key, form, call?.onProgress);
        ready.set(key, snapshot);
        snapshot.catch(() => ready.delete(key));
      }
      const found = await snapshot;
      call?.signal?.throwIfAborted();
      return found;
    },
    usable: () => findUsable(options),
  };
}

async function findUsable(options: BootSnapshotsOptions): Promise<ReadonlySet<string>> {
  const keys = new Set<string>();
  for (const key of await fs.readdir(options.directory)) {
    const content = await readMeta(path.join(options.directory, key));
    if (content?.build === options.driver.build && content.system === options.system.digest) keys.add(key);
  }
  return keys;
}

async function readMeta(directory: string): Promise<z.infer<typeof meta> | undefined> {
  const text = await fs.readFile(path.join(directory, META_FILE), "utf8").catch(ignore("no snapshot, or an unfinished one"));
  return text === undefined ? undefined : meta.safeParse(safeJson(text)).data;
}

/** Names a snapshot by everything it depends on. */
function snapshotKey(options: BootSnapshotsOptions, form: BootShape): string {
  const parts = [
    options.driver.build,
    options.system.digest,
    form.shape.cpus,
    form.shape.memoryMib,
    form.storageGb,
    options.slots ? "net" : "serial",
  ];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 24);
}

async function loadOrMake(options: BootSnapshotsOptions, key: string, form: BootShape, onProgress?: OnProgress): Promise<BootSnapshot> {
  const directory = path.join(options.directory, key);
  const found = await load(options, directory, form);
  if (found) return found;
  const startedMs = performance.now();
  onProgress?.({ step: "boot snapshot", detail: `${form.shape.cpus} CPU, ${form.shape.memoryMib} MiB` });
  const made = await make(options, directory, form);
  options.logger.info(
    { event: "boot_snapshot.make", outcome: "ok", snapshot: key, durationMs: Math.round(performance.now() - startedMs) },
    "boot snapshot made",
  );
  return made;
}

async function load(options: BootSnapshotsOptions, directory: string, form: BootShape): Promise<BootSnapshot | undefined> {
  const content = await readMeta(directory);
  if (!content) return undefined;
  const memory = memoryOf(options, directory, form);
  const sizes = await Promise.all([sizeOf(memory.ramPath), sizeOf(memory.statePath)]);
  if (sizes[0] === content.ramBytes && sizes[1] === content.stateBytes) return { memory, system: options.system };
  options.logger.warn({ event: "boot_snapshot.damaged", directory }, "boot snapshot is damaged, making it anew");
  return undefined;
}

async function make(options: BootSnapshotsOptions, directory: string, form: BootShape): Promise<BootSnapshot> {
  await using scope = new Scope("making a boot snapshot");
  await options.pool.requireSpace(form.shape.memoryMib * 1024 * 1024, "a boot snapshot");
  await fs.rm(directory, { recursive: true, force: true });
  const building = tempBeside(directory);
  await fs.mkdir(building, { recursive: true, mode: 0o711 });
  scope.defer("unfinished snapshot", () => fs.rm(building, { recursive: true, force: true }));
  const slot = await options.slots?.acquire();
  if (slot) scope.defer("network slot", () => options.slots?.release(slot));
  const incarnation = randomBytes(6).toString("hex");
  const diskPath = path.join(building, "disk.raw");
  await emptyDisk(diskPath, form.storageGb, slot?.uid);
  const memory = memoryOf(options, building, form);
  await withDeadline("booting a VM for its snapshot", { timeoutMs: options.bootTimeoutMs }, async (signal) => {
    if (slot) await fs.chown(building, slot.uid, slot.gid);
    const vm = await options.driver.start(
      vmSpec({
        incarnation,
        directory: path.join(options.runDirectory, incarnation),
        shape: form.shape,
        system: options.system,
        diskPath,
        slot,
        memory: { kind: "fresh", path: memory.ramPath },
      }),
      { signal },
    );
    scope.defer("VM process", async () => {
      await vm.kill();
      await vm.dispose();
    });
    const ended = vm.exited.then(async (exit) => {
      throw new VmmError("vmm_exited_early", `the VM ended while booting (${exit.kind})`, { cause: new Error(exit.detail) });
    });
    await Promise.race([awaitIdle({ openBootPort: (call) => vm.openPort(BOOT_PORT, call) }, { signal }), ended]);
    await vm.pause();
    await vm.saveState(memory.statePath);
    await vm.kill();
  });
  await fs.rm(diskPath);
  await seal(options, building, directory, memory);
  return { memory: memoryOf(options, directory, form), system: options.system };
}

/** Makes the files durable and read-only, then visible under their final name. */
async function seal(options: BootSnapshotsOptions, building: string, directory: string, memory: MemorySnapshot): Promise<void> {
  const isRoot = process.getuid?.() === 0;
  for (const file of [memory.ramPath, memory.statePath]) {
    if (isRoot) await fs.chown(file, 0, 0);
    await fs.chmod(file, 0o444);
    await syncPath(file);
  }
  if (isRoot) await fs.chown(building, 0, 0);
  const content = {
    format: 1,
    build: options.driver.build,
    system: options.system.digest,
    ramBytes: await sizeOf(memory.ramPath),
    stateBytes: await sizeOf(memory.statePath),
  };
  const metaPath = path.join(building, META_FILE);
  await fs.writeFile(metaPath, JSON.stringify(content));
  await syncPath(metaPath);
  await fs.rename(building, directory);
  await syncPath(path.dirname(directory));
}

async function emptyDisk(file: string, storageGb: number, uid: number | undefined): Promise<void> {
  await using handle = await fs.open(file, "wx", 0o600);
  await handle.truncate(storageGb * 1024 ** 3);
  if (uid !== undefined) await handle.chown(uid, uid);
}

function memoryOf(options: BootSnapshotsOptions, directory: string, form: BootShape): MemorySnapshot {
  return { ramPath: path.join(directory, "ram"), statePath: path.join(directory, "state"), build: options.driver.build, shape: form.shape };
}

async function syncPath(file: string): Promise<void> {
  await using handle = await fs.open(file, "r");
  await handle.sync();
}

async function sizeOf(file: string): Promise<number | undefined> {
  try {
    return (await fs.stat(file)).size;
  } catch {
    return undefined;
  }
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
