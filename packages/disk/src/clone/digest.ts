/** Digests of content: a text, a file, a directory with everything in it. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";

export function sha256Hex(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

/** Digest of a file's bytes. */
export async function sha256OfFile(file: string, options: { signal?: AbortSignal | undefined; end?: number } = {}): Promise<string> {
  const hash = createHash("sha256");
  const range = options.end === undefined ? {} : { end: options.end - 1 };
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20, ...range }), hash, options.signal ? { signal: options.signal } : {});
  return hash.digest("hex");
}

/** Digest of a directory: names, kinds, permissions, link targets and bytes. Times do not count. */
export async function sha256OfTree(directory: string): Promise<string> {
  const hash = createHash("sha256");
  const visit = async (relative: string): Promise<void> => {
    const names = (await fs.readdir(path.join(directory, relative))).sort();
    for (const name of names) {
      const at = path.join(relative, name);
      const stat = await fs.lstat(path.join(directory, at));
      const content = stat.isSymbolicLink()
        ? sha256Hex(await fs.readlink(path.join(directory, at)))
        : stat.isFile()
          ? await sha256OfFile(path.join(directory, at))
          : "";
      hash.update(`${JSON.stringify([at, stat.mode, content])}\n`);
      if (stat.isDirectory()) await visit(at);
    }
  };
  await visit("");
  return hash.digest("hex");
}
