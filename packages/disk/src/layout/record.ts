/** Small JSON records beside what they describe; written whole, validated when read. */
import fs from "node:fs/promises";
import type { z } from "zod";
import { systemErrorCode } from "../clone/fs-error.ts";
import { DiskError } from "../errors.ts";

/** Longest record that is read, bytes. */
const RECORD_BYTES_MAX = 16 * 1024 * 1024;

/** Reads a record; undefined when there is none. Throws `disk_damaged` when it cannot be understood. */
export async function readJson<T>(file: string, schema: z.ZodType<T>): Promise<T | undefined> {
  let text: string;
  try {
    if ((await fs.stat(file)).size > RECORD_BYTES_MAX) throw new DiskError("disk_damaged", `${file} is far larger than any record`);
    text = await fs.readFile(file, "utf8");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new DiskError("disk_damaged", `${file} is not readable JSON`, { cause });
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw new DiskError("disk_damaged", `${file} does not have the expected form`, { cause: parsed.error });
  return parsed.data;
}
