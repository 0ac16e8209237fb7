/**
 * The simulated host: its process table outlives drivers, as a real host's outlives the daemon.
 * Ends, hangs and failures are injected here, from outside of the driver, as they happen to a
 * real one.
 */
import { existsSync } from "node:fs";
import { VmmError } from "../errors.ts";
import { endGuest, type ParkedGuest, type SimulatedMachine } from "./machine.ts";

/** Above every pid that Linux gives out: nobody kills a real process by mistake. */
const PID_BASE = 4_194_305;

/** What goes wrong with the next start. */
export type StartFault = { kind: "fail"; error: VmmError } | { kind: "hang" };

export class SimulatedHost {
  readonly #machines = new Map<number, SimulatedMachine>();
  readonly #faults: StartFault[] = [];
  readonly #parked = new Map<string, ParkedGuest>();
  #lastPid = PID_BASE;
  #lastStart = 0;

  /** Takes a machine into the process table. */
  admit(machine: SimulatedMachine): { pid: number; startTicks: string } {
    this.#lastPid += 1;
    this.#lastStart += 1;
    this.#machines.set(this.#lastPid, machine);
    return { pid: this.#lastPid, startTicks: String(this.#lastStart) };
  }

  /** The process with that pid *and* start; undefined when it has ended or the pid is another's. */
  find(identity: { pid: number; startTicks: string }): SimulatedMachine | undefined {
    const machine = this.#machines.get(identity.pid);
    return machine?.startTicks === identity.startTicks && !machine.hasEnded ? machine : undefined;
  }

  /** Every machine that runs. */
  running(): SimulatedMachine[] {
    return [...this.#machines.values()].filter((machine) => !machine.hasEnded);
  }

  /** Keeps a saved guest for the resume of that save; ends those that nobody can resume any more. */
  park(token: string, parked: ParkedGuest): void {
    this.#parked.set(token, parked);
    for (const [other, { guest, statePath }] of this.#parked) {
      if (existsSync(statePath)) continue;
      this.#parked.delete(other);
      void endGuest(guest);
    }
  }

  /** The guest of a save, once. */
  takeParked(token: string): ParkedGuest | undefined {
    const parked = this.#parked.get(token);
    this.#parked.delete(token);
    return parked;
  }

  /** Ends every machine as a crash would, and every guest that is parked. */
  async close(): Promise<void> {
    const parked = [...this.#parked.values()];
    this.#parked.clear();
    await Promise.all([...this.running().map((machine) => machine.end("crashed")), ...parked.map(({ guest }) => endGuest(guest))]);
  }

  /** The next start meets this fault. */
  failNextStart(fault: StartFault): void {
    this.#faults.push(fault);
  }

  takeStartFault(): StartFault | undefined {
    return this.#faults.shift();
  }

  /** Ends a machine's process as a crash would. */
  async crash(incarnation: string): Promise<void> {
    const machine = this.#of(incarnation);
    machine.savedAs = undefined;
    await machine.end("crashed");
  }

  /** Makes a machine's control socket mute: pause, resume and save time out; the guest runs on. */
  hang(incarnation: string): void {
    this.#of(incarnation).isHung = true;
  }

  #of(incarnation: string): SimulatedMachine {
    const machine = this.running().find((candidate) => candidate.spec.incarnation === incarnation);
    if (!machine) throw new VmmError("vmm_exited_early", `no simulated machine ${incarnation} runs`);
    return machine;
  }
}
