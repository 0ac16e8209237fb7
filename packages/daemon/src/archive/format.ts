/**
 * One file that holds a sprite, for another host (docs/spec/archive.md).
 *
 * ```
 * archive = zstd( "sprited-archive 1\n" record* )
 * record  = u32 length of the head, big endian | head, JSON | payload of head.length bytes
 * heads   : sprite, part, data…, part_end, end
 * ```
 *
 * Ranges of zeros are left out. Every part ends with the SHA-256 over the offsets and bytes of its
 * data, the archive with a record that says so: what is cut off or changed is noticed.
 */
import { createHash, type Hash } from "node:crypto";
import { ApiError } from "@sprited/protocol/errors";
import { z } from "zod";

const MAGIC = "sprited-archive 1\n";
/** Longest head, bytes. */
const HEAD_BYTES_MAX = 256 * 1024;
/** Longest payload, bytes. */
export const DATA_BYTES_MAX = 1024 * 1024;

const archiveSprite = z.strictObject({
  kind: z.literal("sprite"),
  name: z.string().max(63),
  config: z.strictObject({ cpus: z.int().min(1), memoryMib: z.int().min(1), storageGb: z.int().min(1) }),
  image: z.strictObject({ name: z.string().max(128), digest: z.string().max(256) }),
  environment: z.record(z.string(), z.string()),
  labels: z.array(z.string()),
  /** The checkpoint it was taken of; empty for the state at that moment. */
  checkpoint: z.string().max(64),
  exportedAtMs: z.number(),
});
export type ArchiveSprite = z.infer<typeof archiveSprite>;

const head = z.discriminatedUnion("kind", [
  archiveSprite,
  z.strictObject({ kind: z.literal("part"), name: z.literal("disk"), bytes: z.int().min(0) }),
  z.strictObject({ kind: z.literal("data"), offset: z.int().min(0), length: z.int().min(1).max(DATA_BYTES_MAX) }),
  z.strictObject({ kind: z.literal("part_end"), sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
  z.strictObject({ kind: z.literal("end") }),
]);
export type ArchiveHead = z.infer<typeof head>;

/** A record as it was read; `data` is there for heads of that kind. */
export interface ArchiveRecord {
  head: ArchiveHead;
  data: Buffer;
}

export function archiveMagic(): Buffer {
  return Buffer.from(MAGIC);
}

export function encodeRecord(value: ArchiveHead, data?: Uint8Array): Buffer {
  const text = Buffer.from(JSON.stringify(value));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return Buffer.concat(data ? [length, text, data] : [length, text]);
}

/** Hash of a part: offsets and bytes, in order. */
export class PartHash {
  readonly #hash: Hash = createHash("sha256");

  add(offset: number, data: Uint8Array): void {
    const at = Buffer.alloc(8);
    at.writeBigUInt64BE(BigInt(offset));
    this.#hash.update(at).update(data);
  }

  digest(): string {
    return this.#hash.digest("hex");
  }
}

export function invalidArchive(what: string, cause?: unknown): ApiError {
  return new ApiError("archive_invalid", `the archive cannot be used: ${what}`, { cause });
}

/** Cuts a byte stream into records. Throws `archive_invalid`; memory follows one record. */
export async function* readRecords(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<ArchiveRecord, void, void> {
  const source = new Source(chunks);
  const magic = await source.take(MAGIC.length);
  if (magic?.toString() !== MAGIC) throw invalidArchive("it is not an archive of a sprite, or of a newer version");
  for (;;) {
    const length = (await source.take(4))?.readUInt32BE();
    if (length === undefined) throw invalidArchive("it is cut off");
    if (length > HEAD_BYTES_MAX) throw invalidArchive("a record is too long");
    const text = await source.take(length);
    const parsed = head.safeParse(parseJson(text?.toString("utf8")));
    if (!parsed.success) throw invalidArchive("a record is not understood", parsed.error);
    const data = parsed.data.kind === "data" ? await source.take(parsed.data.length) : Buffer.alloc(0);
    if (!data) throw invalidArchive("it is cut off");
    yield { head: parsed.data, data };
    if (parsed.data.kind !== "end") continue;
    // To the stream's own end: what is cut off there, or follows, is no whole archive either.
    if (await source.take(1)) throw invalidArchive("something follows its end");
    return;
  }
}

class Source {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #pending: Buffer[] = [];
  #bytes = 0;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** Exactly so many bytes; undefined when the stream ends before. */
  async take(count: number): Promise<Buffer | undefined> {
    while (this.#bytes < count) {
      const step = await this.#chunks.next();
      if (step.done) return undefined;
      this.#pending.push(Buffer.from(step.value));
      this.#bytes += step.value.length;
    }
    const all = this.#pending.length === 1 ? (this.#pending[0] as Buffer) : Buffer.concat(this.#pending);
    this.#pending = [all.subarray(count)];
    this.#bytes -= count;
    return all.subarray(0, count);
  }
}

function parseJson(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return undefined;
  }
}
