/**
 * The quietest guest a kernel can host: an initrd whose only program sleeps for ever. What an idle
 * VM of ours may cost is judged against it.
 */

/** Program header follows the ELF header; code follows both. */
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const LOAD_ADDRESS = 0x400000n;
const CODE_OFFSET = ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES;
/** `again: mov eax, 34 (pause); syscall; jmp again` */
const CODE = Buffer.from("b8220000000f05ebf7", "hex");

/** A static x86-64 program of 129 bytes that does nothing but wait for signals. */
export function sleepingProgram(): Buffer {
  const header = Buffer.alloc(CODE_OFFSET);
  Buffer.from("7f454c46020101", "hex").copy(header);
  header.writeUInt16LE(2, 16); // executable
  header.writeUInt16LE(62, 18); // x86-64
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(LOAD_ADDRESS + BigInt(CODE_OFFSET), 24);
  header.writeBigUInt64LE(BigInt(ELF_HEADER_BYTES), 32);
  header.writeUInt16LE(ELF_HEADER_BYTES, 52);
  header.writeUInt16LE(PROGRAM_HEADER_BYTES, 54);
  header.writeUInt16LE(1, 56);
  const bytes = BigInt(CODE_OFFSET + CODE.length);
  header.writeUInt32LE(1, 64); // load
  header.writeUInt32LE(5, 68); // read, execute
  header.writeBigUInt64LE(0n, 72);
  header.writeBigUInt64LE(LOAD_ADDRESS, 80);
  header.writeBigUInt64LE(LOAD_ADDRESS, 88);
  header.writeBigUInt64LE(bytes, 96);
  header.writeBigUInt64LE(bytes, 104);
  header.writeBigUInt64LE(0x1000n, 112);
  return Buffer.concat([header, CODE]);
}

/** A cpio archive (newc) with `/init` and nothing else. */
export function bareInitrd(): Buffer {
  return Buffer.concat([cpioEntry("init", 0o100755, sleepingProgram()), cpioEntry("TRAILER!!!", 0, Buffer.alloc(0))]);
}

function cpioEntry(name: string, mode: number, content: Buffer): Buffer {
  const hex = (value: number): string => value.toString(16).padStart(8, "0");
  const fields = [1, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0].map(hex).join("");
  return Buffer.concat([padded(Buffer.from(`070701${fields}${name}\0`)), padded(content)]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
