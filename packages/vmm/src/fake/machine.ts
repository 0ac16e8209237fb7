/**
 * One simulated machine: a guest in this process behind ports that behave as a VM's do, with
 * memory in the same kind of file. What the guest does not keep in its memory is lost by a resume.
 */
import fs from "node:fs";
import type { Duplex } from "node:stream";
import { ignore, withDeadline } from "@sprited/base";
import type { VmExit, VmSpec } from "../vmm.ts";
import { SimulatedPort } from "./port.ts";

/** Longest end of a guest that was told to stop, ms; its machine is gone by then. */
const GUEST_END_TIMEOUT_MS = 5_000;
/** Memory that a guest can use, bytes; the file is as large as the shape says. */
const MEMORY_BYTES_MAX = 65_536;

/** What the guest remembers: text, kept in the RAM file unless that is another's. */
export interface GuestMemory {
  read(): string;
  write(text: string): void;
}

export interface GuestSurroundings {
  incarnation: string;
  /** The guest's ends, by name. */
  ports: ReadonlyMap<string, Duplex>;
  disks: VmSpec["disks"];
  memory: GuestMemory;
  /** Ends the machine from inside. */
  powerOff(): void;
}

/** Starts what runs in a machine; disposing stops it at once. */
export type SimulatedGuest = (surroundings: GuestSurroundings) => Promise<AsyncDisposable>;

export class SimulatedMachine {
  readonly spec: VmSpec;
  startTicks = "";
  isHung = false;
  isPaused = false;
  hasEnded = false;
  readonly ended: Promise<VmExit["kind"]>;
  readonly ports: ReadonlyMap<string, SimulatedPort>;
  readonly memory: GuestMemory;
  #guest: AsyncDisposable | undefined;
  #settle: (kind: VmExit["kind"]) => void = () => {};

  constructor(spec: VmSpec) {
    this.spec = spec;
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.ports = new Map(spec.ports.map((name) => [name, new SimulatedPort()]));
    this.memory = openMemory(spec);
  }

  async boot(guest: SimulatedGuest): Promise<void> {
    const ports = new Map([...this.ports].map(([name, port]) => [name, port.guestEnd]));
    const { incarnation, disks } = this.spec;
    this.#guest = await guest({ incarnation, ports, disks, memory: this.memory, powerOff: () => void this.end("guest") });
  }

  setPaused(isPaused: boolean): void {
    this.isPaused = isPaused;
    for (const port of this.ports.values()) port.setPaused(isPaused);
  }

  /** Ends the machine once; what its guest does about it changes nothing. */
  async end(kind: VmExit["kind"]): Promise<void> {
    if (this.hasEnded) return;
    this.hasEnded = true;
    for (const port of this.ports.values()) port.close();
    const guest = this.#guest;
    if (guest) {
      await withDeadline("the end of a simulated guest", { timeoutMs: GUEST_END_TIMEOUT_MS }, async () =>
        guest[Symbol.asyncDispose](),
      ).catch(ignore("its machine is gone"));
    }
    this.#settle(kind);
  }
}

/** Makes the RAM of a machine that boots. */
export function createRam(spec: VmSpec, file: string): void {
  fs.writeFileSync(file, "");
  fs.truncateSync(file, spec.shape.memoryMib * 1024 * 1024);
}

function openMemory(spec: VmSpec): GuestMemory {
  const file = spec.memory.kind === "fresh" ? spec.memory.path : spec.memory.snapshot.ramPath;
  const isPrivate = spec.memory.kind === "snapshot" && spec.memory.mapping === "private";
  let content = readText(file);
  return {
    read: () => content,
    write(text) {
      content = text;
      if (!isPrivate) writeText(file, text);
    },
  };
}

function readText(file: string): string {
  const handle = fs.openSync(file, "r");
  try {
    const buffer = Buffer.alloc(MEMORY_BYTES_MAX);
    const bytes = fs.readSync(handle, buffer, 0, MEMORY_BYTES_MAX, 0);
    const end = buffer.subarray(0, bytes).indexOf(0);
    return buffer.subarray(0, end < 0 ? bytes : end).toString("utf8");
  } finally {
    fs.closeSync(handle);
  }
}

function writeText(file: string, text: string): void {
  const handle = fs.openSync(file, "r+");
  try {
    fs.writeSync(handle, Buffer.concat([Buffer.from(text), Buffer.alloc(1)]), 0, undefined, 0);
  } finally {
    fs.closeSync(handle);
  }
}
