/**
 * The files of checkpoints: `pool/checkpoints/<sprite>/<id>/{disk.raw,memory/{ram,state},meta.json}`.
 *
 * Invariants: `meta.json` is written last, after everything else is on the disk; a directory
 * without it is no checkpoint. The meta data carries its own hash, and the sizes of the other
 * files. Nothing in a finished directory is ever changed.
 */
import { createHash } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { asDiskError, DiskError, type DiskPool, syncDirectory, syncFile, writeFileAtomic } from "@sprited/disk";
import { z } from "zod";
import { type MemoryRecord, memoryPaths } from "../machine/index.ts";
import type { StateFiles } from "./sprite-state.ts";

const META_FILE = "meta.json";
/** Longest meta data that is read, bytes. */
const META_BYTES_MAX = 1024 * 1024;

const memoryRecord: z.ZodType<MemoryRecord> = z.object({
  build: z.string(),
  shape: z.object({ cpus: z.int(), memoryMib: z.int() }),
  storageGb: z.int(),
  network: z.boolean(),
  system: z.string(),
  generation: z.int(),
  agentVersion: z.string(),
  ramOffset: z.int(),
  savedAtMs: z.number(),
});

const content = z.object({
  format: z.literal(1),
  spriteId: z.string(),
  id: z.string(),
  createdAtMs: z.number(),
  /** What the sprite was made of: a machine of the same form is needed to resume the memory. */
  image: z.object({ name: z.string(), digest: z.string() }),
  config: z.object({ cpus: z.int(), memoryMib: z.int(), storageGb: z.int() }),
  diskBytes: z.int(),
  memory: z.object({ record: memoryRecord, ramBytes: z.int(), stateBytes: z.int(), stateSha256: z.string() }).nullable(),
});
export type CheckpointMeta = z.infer<typeof content>;
/** What only the caller knows of the meta data. */
export type MetaIdentity = Pick<CheckpointMeta, "spriteId" | "id" | "createdAtMs" | "image" | "config">;

const envelope = z.object({ sha256: z.string(), content: z.unknown() });

export interface CheckpointPaths {
  directory: string;
  diskPath: string;
  memoryDirectory: string;
  ramPath: string;
  statePath: string;
}

/** Where the files of a state lie in `directory`: a checkpoint's, a sprite's own. */
export function pathsIn(directory: string): CheckpointPaths {
  const memory = memoryPaths(path.join(directory, "memory"));
  return {
    directory,
    diskPath: path.join(directory, "disk.raw"),
    memoryDirectory: memory.directory,
    ramPath: memory.ram,
    statePath: memory.state,
  };
}

export class CheckpointFiles {
  readonly #pool: DiskPool;
  readonly #root: string;

  /** `root` holds one directory per sprite. */
  constructor(options: { pool: DiskPool; root: string }) {
    this.#pool = options.pool;
    this.#root = options.root;
  }

  paths(spriteId: string, id: string): CheckpointPaths {
    return pathsIn(path.join(this.#root, spriteId, id));
  }

  /** An empty directory for a new checkpoint. */
  async prepare(spriteId: string, id: string): Promise<CheckpointPaths> {
    const paths = this.paths(spriteId, id);
    await fs.rm(paths.directory, { recursive: true, force: true });
    await fs.mkdir(paths.directory, { recursive: true, mode: 0o700 });
    return paths;
  }

  /** Clones a state that stands still. Nothing is flushed yet: whoever waits for it may go on first. */
  async copy(source: StateFiles, target: CheckpointPaths): Promise<void> {
    const clones: [from: string, to: string][] = [[source.diskPath, target.diskPath]];
    if (source.memory) {
      await fs.mkdir(target.memoryDirectory, { mode: 0o711 });
      clones.push([source.memory.ramPath, target.ramPath], [source.memory.statePath, target.statePath]);
    }
    // Side by side: a guest waits. None is left under way when one fails.
    const made = await Promise.allSettled(clones.map(([from, to]) => this.#pool.clone(from, to, { durable: false })));
    for (const one of made) if (one.status === "rejected") throw one.reason;
  }

  /** Makes what `copy` cloned a checkpoint that survives a power cut. Returns the bytes it holds. */
  async seal(
    target: CheckpointPaths,
    identity: MetaIdentity,
    memory: MemoryRecord | undefined,
  ): Promise<{ diskBytes: number; memoryBytes: number }> {
    try {
      return await seal(target, identity, memory);
    } catch (error) {
      throw asDiskError(error, "writing a checkpoint");
    }
  }

  /** Reads the meta data and compares what lies there with it. Throws `disk_damaged`. */
  async verify(spriteId: string, id: string): Promise<CheckpointMeta> {
    const paths = this.paths(spriteId, id);
    const meta = await readMeta(path.join(paths.directory, META_FILE));
    if (meta.spriteId !== spriteId || meta.id !== id) throw new DiskError("disk_damaged", `checkpoint ${id} holds another's meta data`);
    await requireSize(paths.diskPath, meta.diskBytes);
    if (!meta.memory) return meta;
    await requireSize(paths.ramPath, meta.memory.ramBytes);
    await requireSize(paths.statePath, meta.memory.stateBytes);
    const state = await fs.readFile(paths.statePath);
    if (sha256(state) !== meta.memory.stateSha256) throw new DiskError("disk_damaged", `the device state of checkpoint ${id} is damaged`);
    return meta;
  }

  /** The files of a checkpoint as a state to copy from. */
  stateOf(spriteId: string, id: string, meta: CheckpointMeta): StateFiles {
    const { diskPath, ramPath, statePath } = this.paths(spriteId, id);
    return { diskPath, memory: meta.memory ? { ramPath, statePath, record: meta.memory.record } : undefined };
  }

  /** Removes one checkpoint's files; missing is fine. The meta data goes first, so that no half of it counts. */
  async remove(spriteId: string, id: string): Promise<void> {
    const { directory } = this.paths(spriteId, id);
    await fs.rm(path.join(directory, META_FILE), { force: true });
    await fs.rm(directory, { recursive: true, force: true });
  }

  /** Removes everything of a sprite. */
  async removeAll(spriteId: string): Promise<void> {
    await fs.rm(path.join(this.#root, spriteId), { recursive: true, force: true });
  }

  /** Removes directories of the sprite that are not in `ids`. */
  async sweep(spriteId: string, ids: ReadonlySet<string>): Promise<string[]> {
    const gone = (await this.namesOf(spriteId)).filter((name) => !ids.has(name));
    for (const name of gone) await fs.rm(path.join(this.#root, spriteId, name), { recursive: true, force: true });
    return gone;
  }

  /** Names of the sprite's directories. */
  async namesOf(spriteId: string): Promise<string[]> {
    return await namesIn(path.join(this.#root, spriteId));
  }

  /** Sprites that have a directory here. */
  async spriteIds(): Promise<string[]> {
    return await namesIn(this.#root);
  }
}

async function seal(
  target: CheckpointPaths,
  identity: MetaIdentity,
  memory: MemoryRecord | undefined,
): Promise<{ diskBytes: number; memoryBytes: number }> {
  const files = memory ? [target.diskPath, target.ramPath, target.statePath] : [target.diskPath];
  for (const file of files) await syncFile(file);
  if (memory) await syncDirectory(target.memoryDirectory);
  const disk = await fs.stat(target.diskPath);
  const meta: CheckpointMeta = {
    format: 1,
    ...identity,
    diskBytes: disk.size,
    memory: memory
      ? {
          record: memory,
          ramBytes: (await fs.stat(target.ramPath)).size,
          stateBytes: (await fs.stat(target.statePath)).size,
          stateSha256: sha256(await fs.readFile(target.statePath)),
        }
      : null,
  };
  await syncDirectory(target.directory);
  const text = JSON.stringify({ sha256: sha256(JSON.stringify(meta)), content: meta });
  await writeFileAtomic(path.join(target.directory, META_FILE), text, 0o600);
  const spriteDirectory = path.dirname(target.directory);
  for (const directory of [spriteDirectory, path.dirname(spriteDirectory)]) await syncDirectory(directory);
  const memoryBytes = memory ? allocated(await fs.stat(target.ramPath)) + allocated(await fs.stat(target.statePath)) : 0;
  return { diskBytes: allocated(disk), memoryBytes };
}

async function readMeta(file: string): Promise<CheckpointMeta> {
  try {
    if ((await fs.stat(file)).size > META_BYTES_MAX) throw new DiskError("disk_damaged", "the meta data is far too long");
    const outer = envelope.parse(JSON.parse(await fs.readFile(file, "utf8")));
    if (sha256(JSON.stringify(outer.content)) !== outer.sha256)
      throw new DiskError("disk_damaged", "the meta data does not match its hash");
    return content.parse(outer.content);
  } catch (cause) {
    if (cause instanceof DiskError) throw cause;
    throw new DiskError("disk_damaged", "the meta data of a checkpoint cannot be read", { cause });
  }
}

async function requireSize(file: string, bytes: number): Promise<void> {
  const found = await fs.stat(file).catch((cause: unknown) => {
    throw new DiskError("disk_damaged", `${path.basename(file)} of a checkpoint is missing`, { cause });
  });
  if (found.size !== bytes)
    throw new DiskError("disk_damaged", `${path.basename(file)} of a checkpoint has another size than when it was made`);
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await fs.readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

/** Bytes that a file takes on its file system; shared ones count for each file. */
function allocated(stat: { blocks: number }): number {
  return stat.blocks * 512;
}

function sha256(bytes: string | Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
