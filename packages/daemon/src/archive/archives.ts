/**
 * Sprites out of this host and into it, as one stream each. Nothing is held in memory beyond a
 * record; what is read from outside is checked before it becomes a sprite, and leaves nothing when
 * it is wrong.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { pipeline, Readable } from "node:stream";
import zlib from "node:zlib";
import { ignore, type Logger, Scope } from "@sprited/base";
import { dataExtents, type DiskPool } from "@sprited/disk";
import { environmentProblem, labelsProblem } from "@sprited/protocol/api";
import { ApiError } from "@sprited/protocol/errors";
import type { CheckpointFiles, Checkpoints, SpriteStates } from "../checkpoint/index.ts";
import { pathsIn } from "../checkpoint/index.ts";
import type { Activities, Sprites, SpriteView } from "../sprite/index.ts";
import { archiveMagic, type ArchiveSprite, DATA_BYTES_MAX, encodeRecord, invalidArchive, PartHash, readRecords } from "./format.ts";

const GIB = 1024 ** 3;
/** Free space is asked for again after so many bytes. */
const SPACE_EVERY_BYTES = 256 * 1024 * 1024;
/** Ranges of zeros this long are left out, bytes. */
const ZERO_BYTES = 64 * 1024;

export interface ArchivesOptions {
  sprites: Pick<Sprites, "create" | "get">;
  checkpoints: Pick<Checkpoints, "look">;
  states: SpriteStates;
  files: CheckpointFiles;
  pool: DiskPool;
  activities: Activities;
  scratch: string;
  logger: Logger;
}

export class Archives {
  readonly #options: ArchivesOptions;

  constructor(options: ArchivesOptions) {
    this.#options = options;
  }

  /**
   * The bytes of an archive of the sprite as it is now, or of a checkpoint. The state is copied
   * before this resolves; closing the stream ends the export.
   */
  async export(request: { organizationId: string; name: string; checkpointId: string | undefined }): Promise<Readable> {
    const { sprites, checkpoints, activities } = this.#options;
    const sprite = sprites.get(request.organizationId, request.name);
    await using scope = new Scope(`export of ${sprite.name}`);
    const hold = activities.hold(sprite.id, "operation", "export");
    scope.defer("hold", () => hold.release());
    const paths = pathsIn(path.join(this.#options.scratch, `export-${randomBytes(6).toString("hex")}`));
    await fs.mkdir(paths.directory, { recursive: true, mode: 0o700 });
    scope.defer("copy", () => removeScratch(paths.directory));
    if (request.checkpointId === undefined) {
      await this.#options.states.copy(sprite.id, { memory: false }, (files) => this.#options.files.copy(files, paths));
    } else {
      const { paths: from } = await checkpoints.look(request.organizationId, request.name, request.checkpointId);
      await this.#options.pool.clone(from.diskPath, paths.diskPath, { durable: false });
    }
    const about: ArchiveSprite = {
      kind: "sprite",
      name: sprite.name,
      config: sprite.config,
      image: { name: sprite.imageName, digest: sprite.imageDigest },
      environment: sprite.environment,
      labels: sprite.labels,
      checkpoint: request.checkpointId ?? "",
      exportedAtMs: Date.now(),
    };
    const owned = scope.move();
    const compressed = zlib.createZstdCompress();
    compressed.on("error", ignore("whoever reads the archive sees it cut off"));
    pipeline(Readable.from(records(about, paths.diskPath)), compressed, () => {
      void owned[Symbol.asyncDispose]().catch(ignore("the scratch directory is emptied at the next start"));
    });
    return compressed;
  }

  /** Makes a sprite of an archive. Throws `archive_invalid`, `disk_full`, and what creating a sprite throws. */
  async import(
    request: { organizationId: string; name: string; labels?: readonly string[] | undefined },
    body: Readable,
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<SpriteView> {
    const startedMs = performance.now();
    await using scope = new Scope(`import of ${request.name}`);
    const directory = path.join(this.#options.scratch, `import-${randomBytes(6).toString("hex")}`);
    await fs.mkdir(directory, { recursive: true, mode: 0o700 });
    scope.defer("files", () => removeScratch(directory));
    const diskPath = path.join(directory, "disk.raw");
    const about = await this.#receive(body, diskPath, options.signal);
    const { blocks } = await fs.stat(diskPath);
    const sprite = await this.#options.sprites.create(
      {
        organizationId: request.organizationId,
        name: request.name,
        config: about.config,
        environment: about.environment,
        labels: [...(request.labels ?? about.labels)],
        urlSettings: {},
        imageName: about.image.name,
      },
      { signal: options.signal, origin: { diskPath, image: about.image, diskBytes: blocks * 512 } },
    );
    const durationMs = Math.round(performance.now() - startedMs);
    this.#options.logger.info(
      { event: "archive.import", outcome: "ok", spriteId: sprite.id, bytes: blocks * 512, durationMs },
      "sprite imported",
    );
    return sprite;
  }

  /** Writes the archive's disk to `file`, whole and checked. */
  async #receive(body: Readable, file: string, signal: AbortSignal | undefined): Promise<ArchiveSprite> {
    const decompressed = zlib.createZstdDecompress();
    pipeline(body, decompressed, ignore("the reader of the records is told"));
    // A pipeline that was left stops listening; what its streams still find wrong must not end the daemon.
    for (const stream of [body, decompressed]) stream.on("error", ignore("nobody reads it any more"));
    const stop = (): void => void body.destroy(signal?.reason as Error);
    signal?.addEventListener("abort", stop, { once: true });
    await using handle = await fs.open(file, "wx", 0o600);
    let about: ArchiveSprite | undefined;
    let part: { bytes: number; hash: PartHash } | undefined;
    let whole = false;
    let unchecked = SPACE_EVERY_BYTES;
    try {
      for await (const { head, data } of readRecords(decompressed)) {
        if (head.kind === "sprite" && !about) about = head;
        else if (head.kind === "part" && about && !part) {
          if (head.bytes > about.config.storageGb * GIB) throw invalidArchive("the disk is larger than the sprite's size says");
          part = { bytes: head.bytes, hash: new PartHash() };
          await handle.truncate(head.bytes);
        } else if (head.kind === "data" && part && !whole) {
          if (head.offset + head.length > part.bytes) throw invalidArchive("data lies beyond the end of the disk");
          unchecked += data.length;
          if (unchecked >= SPACE_EVERY_BYTES) {
            await this.#options.pool.requireSpace(SPACE_EVERY_BYTES, "an import");
            unchecked = 0;
          }
          part.hash.add(head.offset, data);
          await handle.write(data, 0, data.length, head.offset);
        } else if (head.kind === "part_end" && part && !whole) {
          if (part.hash.digest() !== head.sha256) throw invalidArchive("its content does not match its hash");
          whole = true;
        } else if (head.kind !== "end" || !whole) throw invalidArchive("its records are in a wrong order");
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (isZlibError(error)) throw invalidArchive("it is not compressed as archives are, or cut off", error);
      throw error;
    } finally {
      signal?.removeEventListener("abort", stop);
      body.destroy();
    }
    if (!about) throw invalidArchive("it holds no sprite");
    const problem = environmentProblem(about.environment) ?? labelsProblem(about.labels);
    if (problem !== undefined) throw invalidArchive(problem);
    await handle.sync();
    return about;
  }
}

/** What came of the work counts, not whether its copy could be removed: that is swept at the next start. */
async function removeScratch(directory: string): Promise<void> {
  await fs.rm(directory, { recursive: true, force: true }).catch(ignore("emptied at the next start"));
}

/** The records of an archive of that disk. */
async function* records(about: ArchiveSprite, diskPath: string): AsyncGenerator<Buffer, void, void> {
  yield archiveMagic();
  yield encodeRecord(about);
  await using disk = await fs.open(diskPath, "r");
  const { size } = await disk.stat();
  yield encodeRecord({ kind: "part", name: "disk", bytes: size });
  const hash = new PartHash();
  const zeros = Buffer.alloc(ZERO_BYTES);
  for (const extent of await dataExtents(diskPath)) {
    for (let at = extent.offset; at < extent.offset + extent.length; at += DATA_BYTES_MAX) {
      const length = Math.min(DATA_BYTES_MAX, extent.offset + extent.length - at);
      const { bytesRead, buffer } = await disk.read(Buffer.allocUnsafe(length), 0, length, at);
      for (const { offset, data } of withoutZeros(buffer.subarray(0, bytesRead), zeros)) {
        hash.add(at + offset, data);
        yield encodeRecord({ kind: "data", offset: at + offset, length: data.length }, data);
      }
    }
  }
  yield encodeRecord({ kind: "part_end", sha256: hash.digest() });
  yield encodeRecord({ kind: "end" });
}

/** What of `bytes` is worth writing: pieces between aligned ranges of zeros. Pure. */
export function withoutZeros(bytes: Buffer, zeros: Buffer): { offset: number; data: Buffer }[] {
  const pieces: { offset: number; data: Buffer }[] = [];
  for (let at = 0; at < bytes.length; at += zeros.length) {
    const data = bytes.subarray(at, at + zeros.length);
    if (data.equals(zeros.subarray(0, data.length))) continue;
    const last = pieces.at(-1);
    if (last && last.offset + last.data.length === at) last.data = bytes.subarray(last.offset, at + data.length);
    else pieces.push({ offset: at, data });
  }
  return pieces;
}

function isZlibError(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return !ApiError.is(error) && typeof code === "string" && (code.startsWith("ZSTD_") || code.startsWith("Z_") || code.startsWith("ERR_"));
}
