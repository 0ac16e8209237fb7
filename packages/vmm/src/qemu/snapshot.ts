/**
 * Files of a memory snapshot: the RAM file as it is, and the device state with a header of ours.
 *
 * ```
 * state: | header, JSON, padded with zeros to 4096 bytes | QEMU's migration stream |
 * ```
 *
 * The header says which build and shape the stream is for and what it must hash to, so that a
 * damaged or foreign state is refused before QEMU reads it.
 */
import { createHash, randomBytes } from "node:crypto";
import { constants } from "node:fs";
import fs from "node:fs/promises";
import { ignore } from "@sprited/base";
import { z } from "zod";
import { VmmError } from "../errors.ts";
import type { MemorySnapshot, VmShape } from "../vmm.ts";
import { ramMib, STATE_OFFSET } from "./args.ts";

/** Largest device state that is taken, bytes; real ones have some 100 KiB. */
const STATE_BYTES_MAX = 64 * 1024 * 1024;

const stateHeader = z.object({
  magic: z.literal("sprited-vm-state"),
  format: z.literal(1),
  build: z.string(),
  shape: z.object({ cpus: z.int(), memoryMib: z.int() }),
  /** Length and hash of what follows the header. */
  bytes: z.int(),
  sha256: z.string(),
});

/**
 * Takes the device state that QEMU wrote at `STATE_OFFSET` of `writtenPath`, completes it and
 * puts it at `statePath` in one step. Nothing is flushed to the disk. The written file is
 * untrusted: it may not be a link and not be larger than a state ever is.
 */
export async function sealState(writtenPath: string, statePath: string, identity: { build: string; shape: VmShape }): Promise<void> {
  await sealStream((await readStateFile(writtenPath)).subarray(STATE_OFFSET), statePath, identity);
}

/** The same for a device state that is at hand. */
export async function sealStream(stream: Buffer, statePath: string, identity: { build: string; shape: VmShape }): Promise<void> {
  if (stream.length === 0) throw new VmmError("vmm_control", "QEMU wrote no device state");
  const header = {
    magic: "sprited-vm-state",
    format: 1,
    build: identity.build,
    shape: identity.shape,
    bytes: stream.length,
    sha256: hashOf(stream),
  };
  const head = Buffer.alloc(STATE_OFFSET);
  head.write(JSON.stringify(header));
  const temporary = `${statePath}.${randomBytes(4).toString("hex")}.tmp`;
  try {
    await fs.writeFile(temporary, Buffer.concat([head, stream]), { mode: 0o600, flag: "wx" });
    await fs.rename(temporary, statePath);
  } catch (error) {
    await fs.rm(temporary, { force: true }).catch(ignore("the first failure tells more"));
    throw error;
  }
}

/**
 * Throws `vmm_snapshot_unusable` unless a VM of `build` and `shape` can resume this snapshot.
 * Reads the device state whole, the RAM file not at all beyond its size.
 */
export async function verifySnapshot(snapshot: MemorySnapshot, expected: { build: string; shape: VmShape }): Promise<void> {
  if (snapshot.build !== expected.build) throw unusable("it was taken by another build of the VMM");
  if (!isSameShape(snapshot.shape, expected.shape)) throw unusable("it was taken of a machine of another shape");
  const ramBytes = await sizeOf(snapshot.ramPath);
  if (ramBytes === undefined) throw unusable("its RAM file is missing");
  if (ramBytes !== (snapshot.ramOffset ?? 0) + ramMib(expected.shape) * 1024 * 1024)
    throw unusable("its RAM file has another size than the machine's memory");
  if ((await sizeOf(snapshot.statePath)) === undefined) throw unusable("its device state is missing");
  const state = await readStateFile(snapshot.statePath).catch((cause: unknown) => {
    throw unusable("its device state cannot be read", cause);
  });
  checkState(state, expected);
}

function checkState(state: Buffer, expected: { build: string; shape: VmShape }): void {
  const text = state.subarray(0, STATE_OFFSET).toString("utf8").replace(/\0+$/, "");
  const parsed = stateHeader.safeParse(parseJson(text));
  if (!parsed.success) throw unusable("its device state has no valid header", parsed.error);
  const stream = state.subarray(STATE_OFFSET);
  if (parsed.data.build !== expected.build) throw unusable("its device state is of another build of the VMM");
  if (!isSameShape(parsed.data.shape, expected.shape)) throw unusable("its device state is of a machine of another shape");
  if (stream.length !== parsed.data.bytes) throw unusable("its device state is cut off");
  if (hashOf(stream) !== parsed.data.sha256) throw unusable("its device state is damaged");
}

export function unusable(why: string, cause?: unknown): VmmError {
  return new VmmError("vmm_snapshot_unusable", `the memory snapshot cannot be resumed: ${why}; start the machine from its disk instead`, {
    cause,
  });
}

function isSameShape(one: VmShape, other: VmShape): boolean {
  return one.cpus === other.cpus && one.memoryMib === other.memoryMib;
}

async function readStateFile(file: string): Promise<Buffer> {
  await using handle = await fs.open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  const stat = await handle.stat();
  if (!stat.isFile() || stat.size > STATE_BYTES_MAX)
    throw new VmmError("vmm_control", "the device state is not a file of a plausible size");
  return handle.readFile();
}

async function sizeOf(file: string): Promise<number | undefined> {
  try {
    const stat = await fs.stat(file);
    return stat.isFile() ? stat.size : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw unusable("its files cannot be read", error);
  }
}

function hashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
