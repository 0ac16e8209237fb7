/**
 * What the contract suite needs of a driver's surroundings, and the talk with its guest.
 *
 * The guest of the suite answers on one port, a line each, and keeps one number in its memory:
 *
 * | line | answer |
 * |---|---|
 * | `get NONCE` | `NONCE number` |
 * | `add NONCE` | adds 1, then as `get` |
 * | `off` | the machine powers off |
 */
import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { withDeadline } from "@sprited/base";
import type { MemorySnapshot, VmmDriver, VmProcess, VmSpec } from "../vmm.ts";

/** The port of the suite's guest. */
export const CONTRACT_PORT = "sprited.contract";
/** Longest wait for an answer of a guest that runs; a kernel boots in that time under emulation on a busy host, ms. */
const ANSWER_TIMEOUT_MS = 120_000;
/** How long a paused guest is listened to, ms; it would answer well within that. */
export const SILENCE_MS = 400;

/** One host with one driver, and what tests do to it from outside. */
export interface ContractWorld extends AsyncDisposable {
  /** Where tests keep their files; on the file system that VMs are kept on. */
  directory: string;
  driver: VmmDriver;
  /** A second driver, as a restarted program opens it; the first one was closed. */
  reopen(): Promise<VmmDriver>;
  /** A machine with the suite's guest: `CONTRACT_PORT` and one writable disk. `directory` and `memory` are filled in by the suite. */
  machine(): Pick<VmSpec, "shape" | "kernel" | "disks" | "nics" | "ports" | "jail">;
  /** Ends a VM's process from outside. */
  crash(vm: VmProcess): Promise<void>;
  /**
   * Ends a VM's process from outside and makes its record name a process that is not a VM and has
   * the same pid by chance. Returns whether that one still lives.
   */
  recyclePid(vm: VmProcess): Promise<{ bystanderLives(): Promise<boolean> }>;
  /** Makes a VM's directory look as if the program had died before the VM's start was done. */
  cutOffStart(vm: VmProcess): Promise<void>;
  /** Processes, groups and the like that VMs have on the host now, a line each. */
  traces(): Promise<string[]>;
}

/** One talk with a guest; close it before another begins. */
export class GuestTalk implements AsyncDisposable {
  readonly #port: Duplex;
  #received = "";
  #onData = (): void => {};

  constructor(port: Duplex) {
    this.#port = port;
    port.setEncoding("utf8");
    port.on("data", (text: string) => {
      this.#received += text;
      this.#onData();
    });
    port.on("error", () => {});
  }

  static async open(vm: VmProcess): Promise<GuestTalk> {
    return new GuestTalk(await vm.openPort(CONTRACT_PORT));
  }

  async get(): Promise<number> {
    return this.answer(this.ask("get"));
  }

  async add(): Promise<number> {
    return this.answer(this.ask("add"));
  }

  powerOff(): void {
    this.#port.write("off\n");
  }

  /** Sends a question; returns its nonce. */
  ask(what: "get" | "add"): string {
    const nonce = randomBytes(8).toString("hex");
    this.#port.write(`${what} ${nonce}\n`);
    return nonce;
  }

  /** Waits for the answer to a question. */
  async answer(nonce: string, timeoutMs = ANSWER_TIMEOUT_MS): Promise<number> {
    const pattern = new RegExp(`${nonce} (\\d+)\\s`);
    return withDeadline(
      "the guest's answer",
      { timeoutMs },
      () =>
        new Promise((resolve) => {
          this.#onData = () => {
            const match = pattern.exec(this.#received);
            if (match) resolve(Number(match[1]));
          };
          this.#onData();
        }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#port.destroyed) return;
    const closed = new Promise((resolve) => this.#port.once("close", resolve));
    this.#port.destroy();
    await closed;
  }
}

/** One question in a talk of its own. */
export async function askGuest(vm: VmProcess, what: "get" | "add"): Promise<number> {
  await using talk = await GuestTalk.open(vm);
  return await talk.answer(talk.ask(what));
}

/** A saved machine whose number is known. */
export interface SavedMachine {
  snapshot: MemorySnapshot;
  number: number;
}
