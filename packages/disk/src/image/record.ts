/**
 * What is known about the files of a built image, and the cheap check at every use: size and time
 * first; only when the time differs the content decides. A built image is never written again, so
 * anything else is damage.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { sha256OfFile } from "../clone/digest.ts";
import { systemErrorCode } from "../clone/fs-error.ts";
import { DiskError } from "../errors.ts";
import { readJson } from "../layout/record.ts";
import { imageName } from "./definition.ts";

/** Bytes at the start that hold superblock and group descriptors. */
const HEAD_BYTES = 1024 * 1024;

const fileRecord = z.object({
  bytes: z.int(),
  /** Time of the last change, ns. */
  mtime_ns: z.string().regex(/^\d+$/),
  /** Of the first MiB. */
  head_sha256: z.string(),
  /** Of everything; only for the file that others are made from. */
  sha256: z.string().optional(),
});
export type FileRecord = z.infer<typeof fileRecord>;

export const imageRecordFile = z.object({
  format: z.literal(1),
  name: imageName,
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  /** Digest of the definition: what decides whether a build can be left out. */
  definition_digest: z.string(),
  built_at: z.string(),
  content_bytes: z.int(),
  image: fileRecord,
});
export type ImageRecordFile = z.infer<typeof imageRecordFile>;

/** Takes down a finished file. `full`: with the digest of everything. */
export async function recordFile(file: string, options: { full: boolean; signal?: AbortSignal | undefined }): Promise<FileRecord> {
  const stat = await fs.stat(file, { bigint: true });
  const head = await sha256OfFile(file, { end: HEAD_BYTES, signal: options.signal });
  return {
    bytes: Number(stat.size),
    mtime_ns: String(stat.mtimeNs),
    head_sha256: head,
    ...(options.full ? { sha256: await sha256OfFile(file, { signal: options.signal }) } : {}),
  };
}

/** Checks a file against its record. Throws `disk_damaged` naming what is wrong. */
export async function checkFile(
  file: string,
  record: FileRecord,
  options: { full?: boolean; signal?: AbortSignal | undefined } = {},
): Promise<void> {
  const damaged = (why: string): DiskError => new DiskError("disk_damaged", `${file} ${why}: build the image again`);
  const stat = await fs.stat(file, { bigint: true }).catch((error: unknown) => {
    if (systemErrorCode(error) === "ENOENT") throw damaged("is missing");
    throw error;
  });
  if (Number(stat.size) !== record.bytes) throw damaged(`has ${stat.size} bytes instead of ${record.bytes}`);
  if ((await sha256OfFile(file, { end: HEAD_BYTES, signal: options.signal })) !== record.head_sha256)
    throw damaged("is overwritten at its beginning");
  const touched = String(stat.mtimeNs) !== record.mtime_ns;
  if (!touched && options.full !== true) return;
  // A restored backup has other times and the same content; a damaged file has not.
  if (record.sha256 === undefined) {
    if (touched) throw damaged("was changed after it was made");
    return;
  }
  if ((await sha256OfFile(file, { signal: options.signal })) !== record.sha256) throw damaged("does not hold what it was built with");
}

/** Record of the image in `directory`; undefined when there is none. Throws `disk_damaged`. */
export async function readImageRecord(directory: string): Promise<ImageRecordFile | undefined> {
  return readJson(path.join(directory, "image.json"), imageRecordFile);
}

/** Record of a size of an image, beside it; undefined when there is none. */
export async function readSizeRecord(disk: string): Promise<FileRecord | undefined> {
  return readJson(`${disk}.json`, fileRecord);
}
