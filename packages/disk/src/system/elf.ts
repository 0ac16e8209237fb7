/**
 * The few facts of an ELF file that packing needs: which shared libraries it wants and whether it
 * is a program for this machine. Reads 64-bit little-endian files only; input is Debian's own.
 */

const SECTION_DYNAMIC = 6;
const TAG_NEEDED = 1n;
const SEGMENT_INTERPRETER = 3;

export interface ElfFacts {
  /** Names of the wanted libraries, as `libc.so.6`. */
  needed: string[];
  /** Path of the dynamic loader; undefined for static programs and libraries. */
  interpreter: string | undefined;
}

/** Reads an ELF file's facts; undefined when `bytes` are something else. */
export function readElf(bytes: Buffer): ElfFacts | undefined {
  if (bytes.length < 64 || bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2 || bytes[5] !== 1) return undefined;
  return { needed: neededLibraries(bytes), interpreter: interpreterOf(bytes) };
}

function interpreterOf(bytes: Buffer): string | undefined {
  const offset = Number(bytes.readBigUInt64LE(32));
  const size = bytes.readUInt16LE(54);
  for (let index = 0; index < bytes.readUInt16LE(56); index += 1) {
    const at = offset + index * size;
    if (bytes.readUInt32LE(at) !== SEGMENT_INTERPRETER) continue;
    return textAt(bytes, Number(bytes.readBigUInt64LE(at + 8)));
  }
  return undefined;
}

function neededLibraries(bytes: Buffer): string[] {
  const table = Number(bytes.readBigUInt64LE(40));
  const size = bytes.readUInt16LE(58);
  const section = (index: number): { type: number; offset: number; length: number; link: number } => {
    const at = table + index * size;
    return {
      type: bytes.readUInt32LE(at + 4),
      offset: Number(bytes.readBigUInt64LE(at + 24)),
      length: Number(bytes.readBigUInt64LE(at + 32)),
      link: bytes.readUInt32LE(at + 40),
    };
  };
  for (let index = 0; index < bytes.readUInt16LE(60); index += 1) {
    const one = section(index);
    if (one.type !== SECTION_DYNAMIC) continue;
    const strings = section(one.link).offset;
    const needed: string[] = [];
    for (let at = one.offset; at < one.offset + one.length; at += 16) {
      if (bytes.readBigInt64LE(at) === TAG_NEEDED) needed.push(textAt(bytes, strings + Number(bytes.readBigUInt64LE(at + 8))));
    }
    return needed;
  }
  return [];
}

function textAt(bytes: Buffer, offset: number): string {
  return bytes.toString("latin1", offset, bytes.indexOf(0, offset));
}
