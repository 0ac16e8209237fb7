/**
 * The images of a home: which are built, building one, and an image as a disk of a given size.
 *
 * Invariants: an image is found by what its directory says of itself; a damaged one is reported
 * when asked for by digest or name and left out of lists; one build per definition and one growth
 * per size run at a time, later callers get the same result.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, type Logger } from "@sprited/base";
import { debianSources, openPrivateApt } from "../apt/private-apt.ts";
import { asDiskError } from "../clone/fs-error.ts";
import { DiskError } from "../errors.ts";
import { syncDirectory, syncFile, tempBeside, writeFileAtomic } from "../layout/atomic.ts";
import type { HomeLayout } from "../layout/home.ts";
import type { DiskPool, OnProgress } from "../pool/pool.ts";
import { buildImage, definitionDigest, readManifest } from "./build.ts";
import { type ImageDefinition, imageName, readDefinition } from "./definition.ts";
import { checkFileSystem, GIB, growFileSystem, STORAGE_GB_MAX, STORAGE_GB_MIN } from "./ext4.ts";
import type { ImageRecord, ImageStore } from "./image.ts";
import { checkFile, type ImageRecordFile, readImageRecord, readSizeRecord, recordFile } from "./record.ts";

export interface ImageStoreOptions {
  layout: HomeLayout;
  pool: DiskPool;
  /** Directory of the shipped definitions. */
  definitions: string;
  mirror: string;
  securityMirror: string;
  isRoot: boolean;
  logger: Logger;
}

/** What `verifyImage` found. */
export interface ImageVerdict {
  name: string;
  digest: string;
  /** Undefined when all is well. */
  damage: string | undefined;
}

export function openImageStore(options: ImageStoreOptions): ImageStore {
  const { layout, logger } = options;
  const running = new Map<string, Promise<unknown>>();
  /** Joins work that is already under way under the same key. */
  const once = <T>(key: string, work: () => Promise<T>): Promise<T> => {
    const present = running.get(key) as Promise<T> | undefined;
    if (present) return present;
    const started = work().finally(() => running.delete(key));
    running.set(key, started);
    return started;
  };

  const list = async (): Promise<ImageRecord[]> => (await readRecords(layout, logger)).map((record) => toImageRecord(layout, record));
  const find = async (name: string): Promise<ImageRecord | undefined> => (await list()).findLast((image) => image.name === name);

  return {
    list,
    find,
    async get(name) {
      const image = await find(name);
      if (!image)
        throw new DiskError("disk_image_unknown", `there is no image ${JSON.stringify(name)}: build it, or choose one of the list`);
      return image;
    },
    async byDigest(digest) {
      if (!/^[0-9a-f]{64}$/.test(digest)) throw new DiskError("disk_image_unknown", "an image digest is 64 hex digits");
      const record = await readImageRecord(path.join(layout.images, digest));
      if (!record) throw new DiskError("disk_image_unknown", `there is no image with the digest ${digest.slice(0, 12)}: build it again`);
      return toImageRecord(layout, record);
    },
    async build(name, { definitionPath, onProgress, signal }) {
      const definition = await findDefinition(options, name, definitionPath);
      return once(`build ${definitionDigest(definition)}`, () => ensureBuilt(options, definition, onProgress ?? (() => {}), signal));
    },
    disk(image, sizeGb) {
      return once(`disk ${image.digest} ${sizeGb}`, () => ensureSize(options, image, sizeGb));
    },
  };
}

/** Reads everything of an image against its records and checks its file systems. Slow; for `doctor`. */
export async function verifyImage(image: ImageRecord, options: { signal?: AbortSignal } = {}): Promise<ImageVerdict> {
  const verdict = { name: image.name, digest: image.digest };
  try {
    const record = await readImageRecord(image.directory);
    if (!record) throw new DiskError("disk_damaged", `the record of the image ${image.name} is missing: build it again`);
    const manifest = await readManifest(image.manifestPath);
    if (manifest.digest !== image.digest)
      throw new DiskError("disk_damaged", `the manifest of the image ${image.name} belongs to another one: build it again`);
    await checkFile(rawPath(image), record.image, { full: true, signal: options.signal });
    await checkFileSystem(rawPath(image), options);
    return { ...verdict, damage: undefined };
  } catch (error) {
    if (error instanceof DiskError && error.code === "disk_damaged") return { ...verdict, damage: error.message };
    throw error;
  }
}

async function findDefinition(options: ImageStoreOptions, name: string, definitionPath: string | undefined): Promise<ImageDefinition> {
  if (!imageName.safeParse(name).success) {
    throw new DiskError("disk_image_invalid", "the name of an image is 1 to 63 lower-case letters, digits and dashes");
  }
  const file = definitionPath ?? path.join(options.definitions, `${name}.toml`);
  if (definitionPath === undefined && !(await fs.stat(file).catch(ignore("reported below")))) {
    throw new DiskError("disk_image_unknown", `no image definition is shipped under the name ${name}: give a definition file`);
  }
  const definition = await readDefinition(file);
  return { ...definition, name };
}

async function ensureBuilt(
  options: ImageStoreOptions,
  definition: ImageDefinition,
  onProgress: OnProgress,
  signal: AbortSignal | undefined,
): Promise<ImageRecord> {
  const { layout, logger } = options;
  const wanted = definitionDigest(definition);
  const step = `image ${definition.name}`;
  const present = (await readRecords(layout, logger)).findLast((record) => record.definition_digest === wanted);
  if (present) {
    const image = toImageRecord(layout, present);
    const whole = await checkFile(rawPath(image), present.image, { signal }).then(
      () => true,
      (error: unknown) => {
        if (!(error instanceof DiskError) || error.code !== "disk_damaged") throw error;
        logger.warn({ event: "image", image: definition.name, err: error }, "a built image is damaged: it is built again");
        return false;
      },
    );
    if (whole) {
      onProgress({ step, fraction: 1, detail: "already built" });
      return image;
    }
  }
  const mirror = definition.mirror ?? options.mirror;
  const sources = debianSources(
    definition.suite,
    mirror,
    definition.mirror ? `${definition.mirror.replace(/\/$/, "")}-security` : options.securityMirror,
  );
  const record = await buildImage(definition, {
    layout,
    pool: options.pool,
    isRoot: options.isRoot,
    sources,
    openApt: async () => {
      const apt = await openPrivateApt(path.join(layout.cache, "apt"), sources);
      await apt.update({ signal });
      return apt;
    },
    onProgress,
    signal,
  });
  onProgress({ step, fraction: 1, detail: record.digest.slice(0, 12) });
  return toImageRecord(layout, record);
}

/** The image grown to a size: made once, then only looked at. A damaged one is made anew from the image. */
async function ensureSize(options: ImageStoreOptions, image: ImageRecord, sizeGb: number): Promise<string> {
  if (!Number.isInteger(sizeGb) || sizeGb < STORAGE_GB_MIN || sizeGb > STORAGE_GB_MAX) {
    throw new DiskError("disk_size", `a disk has ${STORAGE_GB_MIN} to ${STORAGE_GB_MAX} GB, in whole numbers`);
  }
  const { pool, logger } = options;
  const disk = path.join(image.directory, `image-${sizeGb}g.raw`);
  try {
    const sized = await readSizeRecord(disk).catch(ignore("an unreadable record is as good as none"));
    if (sized) {
      try {
        await checkFile(disk, sized);
        return disk;
      } catch (error) {
        if (!(error instanceof DiskError) || error.code !== "disk_damaged") throw error;
        logger.warn({ event: "image", image: image.name, sizeGb, err: error }, "a size of an image is damaged: it is made again");
      }
    }
    const record = await readImageRecord(image.directory);
    if (!record) throw new DiskError("disk_damaged", `the image ${image.name} is missing: build it again`);
    await checkFile(rawPath(image), record.image);
    if (record.image.bytes > sizeGb * GIB) {
      throw new DiskError(
        "disk_size",
        `the image ${image.name} alone needs ${Math.ceil(record.image.bytes / GIB)} GB: choose a larger disk`,
      );
    }
    await makeSize(pool, rawPath(image), disk, sizeGb);
    return disk;
  } catch (error) {
    throw asDiskError(error, `making a disk of ${sizeGb} GB from the image ${image.name}`);
  }
}

async function makeSize(pool: DiskPool, raw: string, disk: string, sizeGb: number): Promise<void> {
  await pool.requireSpace(256 * 1024 ** 2, `a disk of ${sizeGb} GB`);
  const temp = tempBeside(disk);
  try {
    await pool.clone(raw, temp);
    await growFileSystem(temp, sizeGb * GIB);
    await fs.chmod(temp, 0o444);
    await syncFile(temp);
    const record = await recordFile(temp, { full: false });
    await fs.rm(`${disk}.json`, { force: true });
    await fs.rename(temp, disk);
    await writeFileAtomic(`${disk}.json`, `${JSON.stringify(record)}\n`);
    await syncDirectory(path.dirname(disk));
  } finally {
    await fs.rm(temp, { force: true });
  }
}

/** Records of all images, oldest first. */
async function readRecords(layout: HomeLayout, logger: Logger): Promise<ImageRecordFile[]> {
  const names = await fs.readdir(layout.images).catch(ignore("no image was ever built"));
  const records: ImageRecordFile[] = [];
  for (const name of names ?? []) {
    if (!/^[0-9a-f]{64}$/.test(name)) continue;
    try {
      const record = await readImageRecord(path.join(layout.images, name));
      if (record && record.digest === name) records.push(record);
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      logger.warn({ event: "image", digest: name, err: error }, "an image has an unreadable record and is left out");
    }
  }
  return records.sort((a, b) => (a.built_at < b.built_at ? -1 : 1));
}

function toImageRecord(layout: HomeLayout, record: ImageRecordFile): ImageRecord {
  const directory = path.join(layout.images, record.digest);
  return {
    name: record.name,
    digest: record.digest,
    directory,
    builtAt: record.built_at,
    manifestPath: path.join(directory, "manifest.json"),
    contentBytes: record.content_bytes,
  };
}

function rawPath(image: ImageRecord): string {
  return path.join(image.directory, "image.raw");
}
