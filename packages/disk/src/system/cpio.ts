/**
 * Writes a cpio archive in the kernel's `newc` form: what an initrd is made of. Everything
 * belongs to root and has no time, so equal content gives equal bytes, and device nodes need
 * no privilege.
 */
export type CpioEntry =
  | { kind: "directory"; path: string; mode: number }
  | { kind: "file"; path: string; mode: number; content: Uint8Array }
  | { kind: "symlink"; path: string; target: string }
  | { kind: "character"; path: string; mode: number; major: number; minor: number };

const TYPE_BITS = { directory: 0o040000, file: 0o100000, symlink: 0o120000, character: 0o020000 } as const;

/** The archive's bytes. Paths are relative; a directory comes before what lies in it. */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const parts: Buffer[] = [];
  entries.forEach((entry, index) => parts.push(...member(entry, index + 1)));
  parts.push(...member({ kind: "file", path: "TRAILER!!!", mode: 0, content: new Uint8Array() }, 0, true));
  return Buffer.concat(parts);
}

function member(entry: CpioEntry, inode: number, trailer = false): Buffer[] {
  const content =
    entry.kind === "file" ? Buffer.from(entry.content) : entry.kind === "symlink" ? Buffer.from(entry.target) : Buffer.alloc(0);
  const permissions = entry.kind === "symlink" ? 0o777 : entry.mode;
  const name = Buffer.from(`${entry.path}\0`);
  const fields = [
    inode,
    trailer ? 0 : TYPE_BITS[entry.kind] | permissions,
    0,
    0,
    1,
    0,
    content.length,
    0,
    0,
    entry.kind === "character" ? entry.major : 0,
    entry.kind === "character" ? entry.minor : 0,
    name.length,
    0,
  ];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  return [padded(Buffer.concat([header, name])), padded(content)];
}

function padded(bytes: Buffer): Buffer {
  const rest = bytes.length % 4;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(4 - rest)]);
}
