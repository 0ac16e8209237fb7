/**
 * A running QEMU as `VmProcess`, whether this program started it or found it again. The process
 * is watched over its control socket: when that closes and the pid is gone, the VM has ended.
 */
import fs from "node:fs/promises";
import net from "node:net";
import type { Duplex } from "node:stream";
import { ignore, type Logger, waitFor, withDeadline } from "@sprited/base";
import { z } from "zod";
import { VmmError } from "../errors.ts";
import type { MemorySnapshot, VmExit, VmProcess, VmSpec } from "../vmm.ts";
import { CONSOLE_BYTES, vmPaths } from "./args.ts";
import { removeCgroup } from "./cgroup.ts";
import type { QmpClient } from "./qmp.ts";
import { isAlive, type ProcessIdentity } from "./record.ts";

/** One command of the control socket, ms; the slowest writes device state. */
const COMMAND_TIMEOUT_MS = 30_000;
/** From `SIGKILL` to the process being gone, ms; a guest's RAM may have to be written back. */
const KILL_TIMEOUT_MS = 30_000;
/** How often a process that is not our child is looked at while it ends, ms. */
const GONE_EVERY_MS = 5;
/** From a closed control socket to the end of its process, ms. */
const EXIT_TIMEOUT_MS = 10_000;
/** Last part of the log that is kept for the exit's detail, bytes. */
const DETAIL_BYTES = 2048;

const runState = z.object({ status: z.string() });
const migrationState = z.object({ status: z.string().optional(), "error-desc": z.string().optional() });

export interface QemuProcessOptions {
  spec: VmSpec;
  identity: ProcessIdentity;
  qmp: QmpClient;
  cgroups: readonly string[];
  build: string;
  logger: Logger;
}

export class QemuProcess implements VmProcess {
  readonly incarnation: string;
  readonly pid: number;
  readonly spec: VmSpec;
  readonly exited: Promise<VmExit>;
  readonly #options: QemuProcessOptions;
  #killRequested = false;
  #guestShutdown = false;

  constructor(options: QemuProcessOptions) {
    this.#options = options;
    this.incarnation = options.spec.incarnation;
    this.pid = options.identity.pid;
    this.spec = options.spec;
    options.qmp.onEvent((name, data) => {
      if (name === "SHUTDOWN" && z.object({ guest: z.literal(true) }).safeParse(data).success) this.#guestShutdown = true;
    });
    this.exited = this.#watch();
  }

  async openPort(name: string, options: { signal?: AbortSignal } = {}): Promise<Duplex> {
    const index = this.spec.ports.indexOf(name);
    if (index < 0) throw new VmmError("vmm_control", `the VM has no port ${name}`);
    options.signal?.throwIfAborted();
    const socket = net.connect(vmPaths(this.spec.directory).port(index));
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", (cause) => reject(new VmmError("vmm_control", `the VM's port ${name} cannot be opened`, { cause })));
    });
    return socket;
  }

  async pause(): Promise<void> {
    await this.#execute("stop");
  }

  async resume(): Promise<void> {
    await this.#execute("cont");
  }

  async isPaused(): Promise<boolean> {
    return runState.parse(await this.#execute("query-status")).status !== "running";
  }

  async saveState(statePath: string): Promise<MemorySnapshot> {
    const { memory } = this.spec;
    if (memory.kind === "snapshot" && memory.mapping === "private") {
      throw new VmmError("vmm_not_shared", "the VM's RAM is a private view; its memory is in no file of its own");
    }
    if (!(await this.isPaused())) throw new VmmError("vmm_control", "the VM must be paused before its state is saved");
    await this.#execute("migrate", { uri: `file:${statePath}` });
    await waitFor("the VM's device state", { timeoutMs: COMMAND_TIMEOUT_MS, everyMs: 2 }, async () => {
      const state = migrationState.parse(await this.#execute("query-migrate"));
      if (state.status === "failed") {
        throw new VmmError("vmm_control", "the VM's device state could not be saved", { cause: new Error(state["error-desc"] ?? "no reason given") });
      }
      return state.status === "completed";
    });
    return {
      ramPath: memory.kind === "fresh" ? memory.path : memory.snapshot.ramPath,
      statePath,
      build: this.#options.build,
      shape: this.spec.shape,
    };
  }

  async console(): Promise<string> {
    const text = await this.#execute("ringbuf-read", { device: "console", size: CONSOLE_BYTES });
    return typeof text === "string" ? text : "";
  }

  async kill(): Promise<void> {
    this.#killRequested = true;
    if (await isAlive(this.#options.identity)) {
      try {
        process.kill(this.pid, "SIGKILL");
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
      }
    }
    await withDeadline("the end of the VM process", { timeoutMs: KILL_TIMEOUT_MS }, () => this.exited);
  }

  async dispose(): Promise<void> {
    await this.#options.qmp[Symbol.asyncDispose]();
    await removeCgroup(this.#options.cgroups);
    await fs.rm(this.spec.directory, { recursive: true, force: true });
  }

  async #execute(command: string, args?: Record<string, unknown>): Promise<unknown> {
    return await this.#options.qmp.execute(command, args, { timeoutMs: COMMAND_TIMEOUT_MS });
  }

  async #watch(): Promise<VmExit> {
    const { qmp, identity, logger } = this.#options;
    await qmp.closed;
    await waitFor("the end of the VM process", { timeoutMs: EXIT_TIMEOUT_MS, everyMs: GONE_EVERY_MS }, async () => !(await isAlive(identity))).catch(async () => {
      // Without its control socket the VM can be neither steered nor watched: it has to go.
      logger.error({ event: "vm.mute", incarnation: this.incarnation, pid: identity.pid }, "the VMM lives without its control socket, killing it");
      if (await isAlive(identity)) process.kill(identity.pid, "SIGKILL");
      await waitFor("the end of the VM process", { timeoutMs: KILL_TIMEOUT_MS, everyMs: GONE_EVERY_MS }, async () => !(await isAlive(identity))).catch(
        ignore("an unkillable process hangs in the kernel; its sprite must not hang with it"),
      );
    });
    const kind = this.#killRequested ? "requested" : this.#guestShutdown ? "guest" : "crashed";
    return { kind, detail: await lastLines(vmPaths(this.spec.directory).log) };
  }
}

/** The end of the VMM's own messages. */
export async function lastLines(file: string): Promise<string> {
  try {
    await using handle = await fs.open(file, "r");
    const { size } = await handle.stat();
    const buffer = Buffer.alloc(Math.min(size, DETAIL_BYTES));
    await handle.read(buffer, 0, buffer.length, size - buffer.length);
    return buffer.toString("utf8").trim();
  } catch {
    return "";
  }
}
