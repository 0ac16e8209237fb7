/**
 * Gives a VM that maps another's RAM file memory of its own, in files.
 *
 * QEMU writes RAM and device state into one file (`mapped-ram`): each block of memory lies there
 * at a fixed place, as it is in the guest. The guest's RAM stays where it is; from the rest a
 * device state is made that a VM with its RAM in a file of its own would have written
 * (`x-ignore-shared`). Every later save then needs the device state alone.
 *
 * ```
 * file    [head: magic, configuration, "ram" begins] [block header]   …pages…   [rest of the stream]
 * state   [head without `mapped-ram`, headers dropped] [pages of the small blocks] [rest]
 * ```
 *
 * Anything that is not exactly as expected is refused: a wrong device state is never made.
 */
import type { FileHandle } from "node:fs/promises";
import { VmmError } from "../errors.ts";
import { STATE_OFFSET } from "./args.ts";

const MAGIC = 0x5145564d;
const STREAM_VERSION = 3;
const SECTION_START = 0x01;
const SECTION_PART = 0x02;
const SECTION_END = 0x03;
const SUBSECTION = 0x05;
const CONFIGURATION = 0x07;
const COMMAND = 0x08;
const SECTION_FOOTER = 0x7e;
const RAM_SIZE_FLAG = 0x04n;
const RAM_PAGE_FLAG = 0x08n;
const RAM_END_FLAG = 0x10n;
const PAGE_BYTES = 4096;
const FLAGS_MASK = BigInt(PAGE_BYTES - 1);
const MAPPED_RAM = "mapped-ram";
const MAPPED_RAM_VERSION = 1;
/** Length of a block's header: version, page size, offset of the bitmap, offset of the pages. */
const BLOCK_HEADER_BYTES = 28;
const CAPABILITIES = "configuration/capabilities";
/** Blocks beside the guest's RAM: firmware and tables. */
const SMALL_BLOCKS_BYTES_MAX = 16 * 1024 * 1024;
const BLOCKS_MAX = 64;
const COMMAND_BYTES_MAX = 1024;

export interface OwnMemory {
  /** Device state as `x-ignore-shared` writes it. */
  stream: Buffer;
  /** Where the guest's RAM begins in the file, bytes. */
  ramOffset: number;
}

/** Takes a file that QEMU wrote with `mapped-ram` and `x-ignore-shared` apart. `ramId` names the guest's RAM. Throws `vmm_control`. */
export async function splitMappedRam(file: FileHandle, guest: { ramId: string; ramBytes: number }): Promise<OwnMemory> {
  const reader = new Reader(file, STATE_OFFSET);
  const out: Buffer[] = [];
  await copyHead(reader, out);
  const { sectionId, blocks } = await copyRamSetup(reader, out);
  const ram = blocks.find((block) => block.id === guest.ramId);
  if (!ram || ram.bytes !== guest.ramBytes) throw foreign("the guest's RAM is not in it");
  await skipIterations(reader, sectionId, out);
  out.push(u8(SECTION_END), u32(sectionId));
  for (const block of blocks) if (block !== ram) await copyPages(reader, block, out);
  out.push(u64(RAM_END_FLAG), u8(SECTION_FOOTER), u32(sectionId));
  out.push(await reader.rest());
  return { stream: Buffer.concat(out), ramOffset: ram.pagesOffset };
}

interface Block {
  id: string;
  bytes: number;
  bitmapOffset: number;
  pagesOffset: number;
}

/** Magic, version and configuration; the list of capabilities loses `mapped-ram`. */
async function copyHead(reader: Reader, out: Buffer[]): Promise<void> {
  if ((await reader.u32()) !== MAGIC || (await reader.u32()) !== STREAM_VERSION) throw foreign("it is no stream of QEMU's");
  if ((await reader.u8()) !== CONFIGURATION) throw foreign("its configuration is missing");
  const machine = await reader.bytes(await reader.u32Below(256));
  out.push(u32(MAGIC), u32(STREAM_VERSION), u8(CONFIGURATION), u32(machine.length), machine);
  let hasCapabilities = false;
  while ((await reader.peek()) === SUBSECTION) {
    await reader.u8();
    const id = await reader.text();
    const version = await reader.u32();
    if (id !== CAPABILITIES) throw foreign(`its configuration holds ${id}`);
    const capabilities = await capabilityList(reader);
    if (!capabilities.includes(MAPPED_RAM) || hasCapabilities) throw foreign("its capabilities are not those that were set");
    hasCapabilities = true;
    const kept = capabilities.filter((name) => name !== MAPPED_RAM);
    out.push(u8(SUBSECTION), text(id), u32(version), u32(kept.length), ...kept.map(text));
  }
  if (!hasCapabilities) throw foreign("it names no capabilities");
}

async function capabilityList(reader: Reader): Promise<string[]> {
  const names: string[] = [];
  for (let left = await reader.u32Below(64); left > 0; left -= 1) names.push(await reader.text());
  return names;
}

/** The list of memory blocks, without where their pages lie. */
async function copyRamSetup(reader: Reader, out: Buffer[]): Promise<{ sectionId: number; blocks: Block[] }> {
  if ((await reader.u8()) !== SECTION_START) throw foreign("its memory is missing");
  const sectionId = await reader.u32();
  const name = await reader.text();
  if (name !== "ram") throw foreign(`it begins with ${name}`);
  const head = await reader.bytes(8);
  const size = await reader.u64();
  if ((size & FLAGS_MASK) !== RAM_SIZE_FLAG) throw foreign("the size of its memory is missing");
  out.push(u8(SECTION_START), u32(sectionId), text(name), head, u64(size));
  const blocks: Block[] = [];
  for (let left = size & ~FLAGS_MASK; left > 0n;) {
    const id = await reader.text();
    const bytes = await reader.u64();
    const address = await reader.bytes(8);
    if (bytes === 0n || bytes % BigInt(PAGE_BYTES) !== 0n || bytes > left || blocks.length === BLOCKS_MAX)
      throw foreign("a memory block has no plausible size");
    left -= bytes;
    out.push(text(id), u64(bytes), address);
    blocks.push(await mappedBlock(reader, id, Number(bytes)));
  }
  if ((await reader.u64()) !== RAM_END_FLAG) throw foreign("its list of memory blocks has no end");
  out.push(u64(RAM_END_FLAG));
  await reader.footer(sectionId);
  out.push(u8(SECTION_FOOTER), u32(sectionId));
  return { sectionId, blocks };
}

/** Where a block's pages lie; the stream goes on behind them. */
async function mappedBlock(reader: Reader, id: string, bytes: number): Promise<Block> {
  const header = await reader.bytes(BLOCK_HEADER_BYTES);
  if (header.readUInt32BE(0) !== MAPPED_RAM_VERSION || header.readBigUInt64BE(4) !== BigInt(PAGE_BYTES))
    throw foreign("its memory has an unknown form");
  const block = { id, bytes, bitmapOffset: Number(header.readBigUInt64BE(12)), pagesOffset: Number(header.readBigUInt64BE(20)) };
  if (block.bitmapOffset < reader.position || block.pagesOffset < block.bitmapOffset || block.pagesOffset % PAGE_BYTES !== 0)
    throw foreign("a memory block lies at no plausible place");
  reader.position = block.pagesOffset + bytes;
  return block;
}

/** Rounds over the memory carry nothing: the pages are in their places. Commands to the other end are kept. */
async function skipIterations(reader: Reader, sectionId: number, out: Buffer[]): Promise<void> {
  for (;;) {
    const kind = await reader.u8();
    if (kind === COMMAND) {
      const head = await reader.bytes(4);
      if (head.readUInt16BE(2) > COMMAND_BYTES_MAX) throw foreign("a command in it is too long");
      out.push(u8(COMMAND), head, await reader.bytes(head.readUInt16BE(2)));
      continue;
    }
    if ((kind !== SECTION_PART && kind !== SECTION_END) || (await reader.u32()) !== sectionId)
      throw foreign("its memory is not followed by its end");
    if ((await reader.u64()) !== RAM_END_FLAG) throw foreign("it holds memory where none is expected");
    await reader.footer(sectionId);
    if (kind === SECTION_END) return;
  }
}

/** Every page of a small block that QEMU wrote, as a record of the stream. The rest is zero in a new machine too. */
async function copyPages(reader: Reader, block: Block, out: Buffer[]): Promise<void> {
  if (block.bytes > SMALL_BLOCKS_BYTES_MAX) throw foreign(`the memory block ${block.id} is too large`);
  const pages = block.bytes / PAGE_BYTES;
  const bitmap = await reader.at(block.bitmapOffset, Math.ceil(pages / 64) * 8);
  for (let page = 0; page < pages; page += 1) {
    // Words of 64 bits, little-endian: in bytes the bits run in order.
    if (((bitmap[page >> 3] ?? 0) & (1 << (page & 7))) === 0) continue;
    const data = await reader.at(block.pagesOffset + page * PAGE_BYTES, PAGE_BYTES);
    out.push(u64(BigInt(page * PAGE_BYTES) | RAM_PAGE_FLAG), text(block.id), data);
  }
}

class Reader {
  position: number;
  readonly #file: FileHandle;

  constructor(file: FileHandle, position: number) {
    this.#file = file;
    this.position = position;
  }

  async at(position: number, length: number): Promise<Buffer> {
    if (!Number.isSafeInteger(position + length)) throw foreign("it points far beyond its end");
    const { bytesRead, buffer } = await this.#file.read(Buffer.alloc(length), 0, length, position);
    if (bytesRead !== length) throw foreign("it is cut off");
    return buffer;
  }

  async bytes(length: number): Promise<Buffer> {
    const bytes = await this.at(this.position, length);
    this.position += length;
    return bytes;
  }

  async peek(): Promise<number> {
    return (await this.at(this.position, 1)).readUInt8();
  }

  async u8(): Promise<number> {
    return (await this.bytes(1)).readUInt8();
  }

  async u32(): Promise<number> {
    return (await this.bytes(4)).readUInt32BE();
  }

  async u32Below(limit: number): Promise<number> {
    const value = await this.u32();
    if (value >= limit) throw foreign("a length in it is not plausible");
    return value;
  }

  async u64(): Promise<bigint> {
    return (await this.bytes(8)).readBigUInt64BE();
  }

  async text(): Promise<string> {
    return (await this.bytes(await this.u8())).toString("latin1");
  }

  async footer(sectionId: number): Promise<void> {
    if ((await this.u8()) !== SECTION_FOOTER || (await this.u32()) !== sectionId) throw foreign("a part of it has no end");
  }

  async rest(): Promise<Buffer> {
    const { size } = await this.#file.stat();
    const length = size - this.position;
    if (length <= 0 || length > SMALL_BLOCKS_BYTES_MAX) throw foreign("its devices are missing");
    return this.bytes(length);
  }
}

function u8(value: number): Buffer {
  return Buffer.from([value]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  return Buffer.concat([u8(bytes.length), bytes]);
}

function foreign(why: string): VmmError {
  return new VmmError("vmm_control", `QEMU wrote a memory that cannot be taken apart: ${why}`);
}
