/**
 * One simulated machine: a guest in this process behind ports that behave as a VM's do, with
 * memory in the same kind of file.
 *
 * A guest is more than that file can hold (processes, connections), so one whose machine ends
 * after a save is parked alive, and the resume of exactly that save goes on with it. What is
 * resumed from a copy is a new guest, which has only what was kept in its memory.
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

/** What runs in a machine; disposing stops it at once. */
export interface RunningGuest extends AsyncDisposable {
  /** Its vCPUs stop or run again. */
  setPaused?(isPaused: boolean): void;
  /** It goes on in another machine: same ports, another incarnation. */
  resumed?(surroundings: GuestSurroundings): void;
}

/** Starts what runs in a machine. */
export type SimulatedGuest = (surroundings: GuestSurroundings) => Promise<RunningGuest>;

/** A guest without a machine, as it was when it was saved. */
export interface ParkedGuest {
  guest: RunningGuest;
  ports: ReadonlyMap<string, SimulatedPort>;
  memory: SimulatedMemory;
  powerOff: { current: () => void };
  /** Where its device state lies; without it nobody can resume it. */
  statePath: string;
}

export class SimulatedMachine {
  readonly spec: VmSpec;
  startTicks = "";
  isHung = false;
  isPaused = false;
  hasEnded = false;
  readonly ended: Promise<VmExit["kind"]>;
  readonly ports: ReadonlyMap<string, SimulatedPort>;
  readonly memory: SimulatedMemory;
  /** The last save since when the vCPUs stand still: who ends now is parked under it. */
  savedAs: { token: string; statePath: string } | undefined;
  /** Takes the guest of a machine that ended after it was saved. */
  onParked: (parked: ParkedGuest & { token: string }) => void = () => {};
  readonly #powerOff: { current: () => void };
  #guest: RunningGuest | undefined;
  #settle: (kind: VmExit["kind"]) => void = () => {};

  constructor(spec: VmSpec, parked?: ParkedGuest) {
    this.spec = spec;
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.ports = parked?.ports ?? new Map(spec.ports.map((name) => [name, new SimulatedPort()]));
    this.memory = parked?.memory ?? new SimulatedMemory();
    this.memory.moveTo(spec);
    this.#guest = parked?.guest;
    this.#powerOff = parked?.powerOff ?? { current: () => {} };
    this.#powerOff.current = () => void this.end("guest");
  }

  async boot(start: SimulatedGuest): Promise<void> {
    const surroundings = this.#surroundings();
    if (!this.#guest) {
      this.#guest = await start(surroundings);
      return;
    }
    this.#guest.resumed?.(surroundings);
    this.setPaused(false);
  }

  setPaused(isPaused: boolean): void {
    if (!isPaused) this.savedAs = undefined;
    this.isPaused = isPaused;
    this.#guest?.setPaused?.(isPaused);
    for (const port of this.ports.values()) port.setPaused(isPaused);
  }

  /** Ends the machine once; what its guest does about it changes nothing. */
  async end(kind: VmExit["kind"]): Promise<void> {
    if (this.hasEnded) return;
    this.hasEnded = true;
    const guest = this.#guest;
    if (this.savedAs && guest) {
      for (const port of this.ports.values()) port.detach();
      this.onParked({ guest, ports: this.ports, memory: this.memory, powerOff: this.#powerOff, ...this.savedAs });
    } else {
      for (const port of this.ports.values()) port.close();
      if (guest) await endGuest(guest);
    }
    this.#settle(kind);
  }

  #surroundings(): GuestSurroundings {
    const { incarnation, disks } = this.spec;
    const ports = new Map([...this.ports].map(([name, port]) => [name, port.guestEnd]));
    return { incarnation, ports, disks, memory: this.memory, powerOff: () => this.#powerOff.current() };
  }
}

/** Ends a guest; one that does not end holds nobody up for long. */
export async function endGuest(guest: AsyncDisposable): Promise<void> {
  await withDeadline("the end of a simulated guest", { timeoutMs: GUEST_END_TIMEOUT_MS }, async () => guest[Symbol.asyncDispose]()).catch(
    ignore("its machine is gone"),
  );
}

/** Makes the RAM of a machine that boots. */
export function createRam(spec: VmSpec, file: string): void {
  fs.writeFileSync(file, "");
  fs.truncateSync(file, spec.shape.memoryMib * 1024 * 1024);
}

export class SimulatedMemory implements GuestMemory {
  #content: string | undefined;
  /** Where writes go; undefined for a private view. */
  #file: string | undefined;

  /** The RAM is that of this machine from now on; what is remembered stays. */
  moveTo(spec: VmSpec): void {
    const { memory } = spec;
    const file = memory.kind === "fresh" ? memory.path : memory.snapshot.ramPath;
    this.#content ??= readText(file);
    this.#file = memory.kind === "snapshot" && memory.mapping === "private" ? undefined : file;
  }

  read(): string {
    return this.#content ?? "";
  }

  write(text: string): void {
    this.#content = text;
    if (this.#file !== undefined) writeText(this.#file, text);
  }

  /** Writes all of it to another file. */
  saveTo(spec: VmSpec, file: string): void {
    createRam(spec, file);
    writeText(file, this.read());
  }
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
