/**
 * A machine that runs: its link, its pauses, its saved memory, its end. The link is dialled anew
 * whenever it broke; a resume is over only when the guest has the time of now and fresh randomness.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { assert, ignore, type Logger, type Scope, withDeadline } from "@sprited/base";
import { type DiskPool, syncDirectory, syncFile } from "@sprited/disk";
import { type Bootstrap, BOOT_PORT, GUEST_GENERATION, LINK_PORT } from "@sprited/protocol/guest";
import { type NetworkSlot, type VmExit, VmmError, type VmProcess } from "@sprited/vmm";
import { bootstrapGuest, type GuestCarrier, type GuestLink, openLink } from "../guest/index.ts";
import type { GuestFacts } from "./guest-facts.ts";
import type { Machine, MachineRecord, MachineSpec } from "./machine.ts";
import { memoryPaths, type MemoryRecord } from "./memory.ts";
import { ROOT_DISK_SERIAL } from "./vm-spec.ts";

const PAGE_BYTES = 4096;
/** How far behind a resumed guest's clock may stay without another call, ms; LIFE-18 allows 500. */
const CLOCK_ERROR_MS = 50;

export interface RunningOptions {
  /** From "resume" to the agent's answer, ms. */
  startTimeoutMs: number;
  /** One dial of the link, ms. */
  linkTimeoutMs: number;
  pool: Pick<DiskPool, "requireSpace" | "giveBack">;
  logger: Logger;
}

/** What a save would write to the disk at most, bytes: nothing much when the RAM is in its file already. */
async function unsavedBytes(vm: VmProcess): Promise<number> {
  const { memory, shape } = vm.spec;
  if (memory.kind !== "snapshot" || memory.mapping !== "private") return 0;
  const statm = await fs.readFile(`/proc/${vm.pid}/statm`, "utf8").catch(ignore("not a process of this host"));
  const residentPages = Number(statm?.split(" ")[1]);
  const ramBytes = shape.memoryMib * 1024 * 1024;
  return Number.isFinite(residentPages) ? Math.min(ramBytes, residentPages * PAGE_BYTES) : 0;
}

export function carrierOf(process: VmProcess, slot: NetworkSlot | undefined): GuestCarrier {
  return {
    openBootPort: (call) => process.openPort(BOOT_PORT, call),
    link: slot ? { kind: "tcp", ...slot.agentAddress } : { kind: "serial", open: (call) => process.openPort(LINK_PORT, call) },
  };
}

/** What of the machine's beginning the agent must know. */
export interface Beginning {
  facts: Pick<GuestFacts, "generation">;
  /** The saved memory that it goes on with. */
  memory?: MemoryRecord | undefined;
}

/** What the agent is told after every start and resume (BOOT-3). Made anew each time: time and randomness are of now. */
export function bootstrapOf(record: MachineRecord, spec: MachineSpec, { facts, memory }: Beginning): Bootstrap {
  return {
    type: "bootstrap",
    generation: facts.generation,
    incarnation: record.incarnation,
    key: Buffer.from(record.key).toString("base64"),
    time_ms: Date.now(),
    entropy: randomBytes(64).toString("base64"),
    identity: { hostname: spec.hostname, machine_id: spec.machineId, renew: spec.renewIdentity },
    ...(memory?.inherited ? { drop_connections: true } : {}),
    environment: spec.environment,
    root_serial: ROOT_DISK_SERIAL,
  };
}

/** Runs `work` with a signal that aborts with the VM's end as well: what waits for a guest does not wait for one that is gone. */
export async function whileAlive<T>(
  process: Pick<VmProcess, "exited">,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const ended = new AbortController();
  void process.exited.then(() => ended.abort(new VmmError("vmm_exited_early", "the VM ended before its agent answered")));
  try {
    return await work(AbortSignal.any([signal, ended.signal]));
  } catch (error) {
    signal.throwIfAborted();
    ended.signal.throwIfAborted();
    throw error;
  }
}

export interface Running {
  record: MachineRecord;
  process: VmProcess;
  slot: NetworkSlot | undefined;
  /** Undefined for one that was taken over and left none: its memory cannot be kept. */
  facts: GuestFacts | undefined;
  firstLink: GuestLink | undefined;
  /** Everything the machine holds; given back when it ends. */
  scope: Scope;
}

export class RunningMachine implements Machine {
  readonly incarnation: string;
  readonly pid: number;
  readonly exited: Promise<VmExit>;
  readonly #options: RunningOptions;
  readonly #parts: Running;
  readonly #carrier: GuestCarrier;
  #isGone = false;
  #link: GuestLink | undefined;
  #dialling: Promise<GuestLink> | undefined;
  /** RAM file of a memory that is kept when the machine ends. */
  #savedRam: string | undefined;
  #ended: Promise<void> | undefined;

  constructor(options: RunningOptions, parts: Running) {
    const { record, process, slot } = parts;
    this.#options = options;
    this.#parts = parts;
    this.#carrier = carrierOf(process, slot);
    this.incarnation = record.incarnation;
    this.pid = process.pid;
    this.exited = process.exited;
    void process.exited.then(async () => {
      this.#isGone = true;
      // The network of a VM that was killed says nothing: calls would wait until their deadlines, and the sprite's next step with them.
      await this.#link?.[Symbol.asyncDispose]();
    });
    if (parts.firstLink) this.#use(parts.firstLink);
  }

  async link(call?: { signal?: AbortSignal | undefined }): Promise<GuestLink> {
    const { linkTimeoutMs } = this.#options;
    return await withDeadline("the guest's agent", { timeoutMs: linkTimeoutMs, signal: call?.signal }, () => this.#open(linkTimeoutMs));
  }

  async pause(): Promise<void> {
    await this.#parts.process.pause();
  }

  async resume(spec: MachineSpec, call: { signal?: AbortSignal | undefined; memory?: MemoryRecord | undefined }): Promise<void> {
    const { process, record, facts } = this.#parts;
    const timeoutMs = this.#options.startTimeoutMs;
    await withDeadline("resuming the VM", { timeoutMs, signal: call.signal }, async (signal) => {
      await process.resume();
      const resumedMs = performance.now();
      const known = this.#link;
      await whileAlive(process, signal, async (alive) => {
        const link = this.#open(timeoutMs);
        link.catch(ignore("awaited below"));
        const bootstrap = bootstrapOf(record, spec, { facts: facts ?? { generation: GUEST_GENERATION }, memory: call.memory });
        await bootstrapGuest(this.#carrier, bootstrap, { signal: alive, timeoutMs });
        await withDeadline("the guest's agent", { timeoutMs, signal: alive }, () => link);
      });
      // The bootstrap's time is old by as long as the guest took to read it; a new link corrects that by itself.
      if (performance.now() - resumedMs > CLOCK_ERROR_MS) void known?.setClock().catch(ignore("the clock stays as the bootstrap set it"));
    });
  }

  async saveMemory(spec: MachineSpec): Promise<MemoryRecord> {
    const { process, facts, slot } = this.#parts;
    if (!facts) throw new VmmError("vmm_not_shared", "nothing tells what system the VM runs; its memory cannot be kept");
    const { directory, ram, state } = memoryPaths(spec.memoryDirectory);
    await this.#options.pool.requireSpace(await unsavedBytes(process), "the sprite's memory");
    const snapshot = await process.saveState(state);
    assert(snapshot.ramPath === ram, "a sprite's memory lies in its own directory");
    // Its present user is another VM's after this one; who has it open keeps it.
    if (slot) await fs.chown(ram, 0, 0);
    await Promise.all([...[ram, state].map(syncFile), ...[directory, path.dirname(directory)].map(syncDirectory)]);
    this.#savedRam = ram;
    return {
      build: snapshot.build,
      shape: snapshot.shape,
      storageGb: spec.storageGb,
      network: slot !== undefined,
      system: facts.system,
      generation: facts.generation,
      agentVersion: this.#link?.agentVersion ?? "",
      ramOffset: snapshot.ramOffset ?? 0,
      savedAtMs: Date.now(),
    };
  }

  async forgetSaved(): Promise<void> {
    this.#savedRam = undefined;
    const { memory } = this.#parts.process.spec;
    if (memory.kind !== "snapshot") return;
    const savePath = memory.mapping === "private" ? memory.savePath : undefined;
    const ram = savePath ?? memory.snapshot.ramPath;
    await fs.rm(memoryPaths(path.dirname(ram)).state, { force: true });
    if (savePath !== undefined) await fs.truncate(savePath, 0);
  }

  async stop({ graceMs }: { graceMs: number }): Promise<void> {
    try {
      await withDeadline("the orderly stop", { timeoutMs: graceMs }, async (signal) => {
        const open = await this.#open(this.#options.linkTimeoutMs);
        await open.stop(Math.floor(graceMs / 2), { signal, timeoutMs: graceMs });
      });
    } catch (error) {
      this.#options.logger.warn(
        { event: "vm.stop", outcome: "forced", incarnation: this.incarnation, err: error },
        "no orderly stop, killing the VM",
      );
    }
    await this.kill();
  }

  async detach(): Promise<void> {
    this.#isGone = true;
    await this.#link?.[Symbol.asyncDispose]();
  }

  async kill(): Promise<void> {
    await (this.#ended ??= this.#end());
  }

  async #end(): Promise<void> {
    await this.#link?.[Symbol.asyncDispose]();
    await this.#parts.scope[Symbol.asyncDispose]();
    if (this.#savedRam === undefined) return;
    await this.#options.pool.giveBack(this.#savedRam, "the sprite's memory").catch((err: unknown) => {
      this.#options.logger.warn(
        { event: "vm.give_back", incarnation: this.incarnation, err },
        "a kept memory takes more of the disk than it needs",
      );
    });
  }

  async #open(timeoutMs: number): Promise<GuestLink> {
    if (this.#isGone || this.#ended) throw new VmmError("vmm_exited_early", "the VM has ended");
    if (this.#link) return this.#link;
    this.#dialling ??= openLink(this.#carrier, this.#parts.record, { timeoutMs })
      .then((opened) => {
        this.#use(opened);
        return opened;
      })
      .finally(() => {
        this.#dialling = undefined;
      });
    return await this.#dialling;
  }

  #use(link: GuestLink): void {
    this.#link = link;
    if (this.#isGone) void link[Symbol.asyncDispose]();
    void link.closed.then(() => {
      if (this.#link === link) this.#link = undefined;
    });
  }
}
