/**
 * One running QEMU VM, started by this program run or adopted from an earlier one: both know it
 * by its directory, its process and its control socket alone.
 */
import fs from "node:fs/promises";
import path from "node:path";
import type { Duplex } from "node:stream";
import { assert, DeadlineError, ignore, sleep, withDeadline } from "@sprited/base";
import { z } from "zod";
import { VmmError } from "../errors.ts";
import type { MemorySnapshot, VmExit, VmProcess, VmSpec } from "../vmm.ts";
import {
  type AcceleratorKind,
  CONSOLE_BYTES,
  CONSOLE_ID,
  planFiles,
  portSocket,
  RAM_ID,
  ramMib,
  saveUri,
  STATE_FILE,
  STATE_OFFSET,
} from "./args.ts";
import { removeCgroup } from "./cgroup.ts";
import type { QemuControl } from "./control.ts";
import { logTail, type ProcessWatch } from "./process.ts";
import { connectSocket, type QmpEvent } from "./qmp.ts";
import { findText, type VmPaths, type VmRecord } from "./record.ts";
import { splitMappedRam } from "./own-memory.ts";
import { sealState, sealStream } from "./snapshot.ts";

/** Longest wait for a port to accept, ms. */
const PORT_TIMEOUT_MS = 10_000;
/** Longest wait for memory and device state to be written, ms; a slow disk takes large memories slowly. */
const SAVE_TIMEOUT_MS = 300_000;
/** Bytes per second; QEMU's own default is for networks. */
const BANDWIDTH_MAX = 2 ** 40;
/** Longest wait until the end of a killed process was noticed, ms. */
const KILL_TIMEOUT_MS = 5_000;
/** Longest wait for the announcements of a process that is gone, ms. */
const DRAIN_TIMEOUT_MS = 500;
/** QEMU's own words, and the guest's, that go into `VmExit.detail`, bytes of each. */
const DETAIL_BYTES_MAX = 4_096;
/** Longest wait for the last words of a guest that ended, ms. */
const LAST_WORDS_TIMEOUT_MS = 2_000;

const status = z.object({ running: z.boolean(), status: z.string() });

/** What QEMU says of its vCPUs. `inmigrate`: no state was loaded yet, nothing has run. */
export async function runState(control: QemuControl): Promise<{ running: boolean; status: string }> {
  const parsed = status.safeParse(await control.execute("query-status"));
  if (!parsed.success) throw new VmmError("vmm_control", "QEMU does not say whether the VM runs", { cause: parsed.error });
  return parsed.data;
}

/** What a migration's announcement says about its end; undefined while it goes on. */
export function migrationEnd(event: QmpEvent): "completed" | "failed" | undefined {
  const value = event.event === "MIGRATION" ? event.data["status"] : undefined;
  return value === "completed" || value === "failed" ? value : undefined;
}

/** Set on both ends of a migration: RAM that is in a file of its own stays there, progress is announced. */
export const MIGRATION_CAPABILITIES = {
  capabilities: [
    { capability: "x-ignore-shared", state: true },
    { capability: "events", state: true },
  ],
};

/** Writes RAM, where it is written, to fixed places of the file. Old programs do not know it: named only to use it. */
function mappedRam(state: boolean) {
  return { capabilities: [{ capability: "mapped-ram", state }] };
}

export interface QemuVmParts {
  record: VmRecord;
  accelerator: AcceleratorKind;
  paths: VmPaths;
  watch: ProcessWatch;
  control: QemuControl;
}

export class QemuVm implements VmProcess {
  readonly incarnation: string;
  readonly pid: number;
  readonly spec: VmSpec;
  readonly exited: Promise<VmExit>;
  readonly #parts: QemuVmParts;
  #isKilled = false;
  #isDetached = false;
  #exit: VmExit | undefined;
  /** Settled while the machine lives; reading and ending it once its guest has ended. */
  #lastWords: Promise<void> = Promise.resolve();

  constructor(parts: QemuVmParts) {
    this.#parts = parts;
    this.spec = parts.record.spec;
    this.incarnation = this.spec.incarnation;
    this.pid = parts.watch.identity.pid;
    this.exited = this.#awaitExit();
    void parts.control.guestEnded.then(() => {
      this.#lastWords = this.#endMachine();
    });
    parts.control.noticeGuestEnd().catch(ignore("a machine that cannot be asked is seen by its process"));
  }

  async openPort(name: string, options: { signal?: AbortSignal } = {}): Promise<Duplex> {
    const index = this.spec.ports.indexOf(name);
    assert(index >= 0, `the VM has no port ${name}`);
    this.#requireAlive();
    const ended = new AbortController();
    void this.exited.then(() => ended.abort(gone()));
    const signal = options.signal ? AbortSignal.any([options.signal, ended.signal]) : ended.signal;
    const socketPath = path.join(this.#parts.paths.jail, portSocket(index));
    try {
      const port = await withDeadline("the VM's serial port", { timeoutMs: PORT_TIMEOUT_MS, signal }, (deadline) =>
        connectSocket(socketPath, deadline),
      );
      // A VM that ends resets its ports; without any listener that would end this program too.
      return port.on("error", ignore("the port closes, which its user sees"));
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
      throw new VmmError("vmm_timeout", `the VM does not open its port ${name}`, { cause: error });
    }
  }

  async pause(): Promise<void> {
    await this.#execute("stop");
  }

  async resume(): Promise<void> {
    await this.#execute("cont");
  }

  async isPaused(): Promise<boolean> {
    return !(await runState(this.#parts.control)).running;
  }

  async saveState(statePath: string): Promise<MemorySnapshot> {
    const { memory } = this.spec;
    const isOwn = memory.kind === "fresh" || memory.mapping === "shared";
    const savePath = memory.kind === "snapshot" && !isOwn ? memory.savePath : undefined;
    if (!isOwn && savePath === undefined) {
      throw new VmmError("vmm_not_shared", "the VM's memory is a private view of another's file; it has no file of its own to keep");
    }
    if (!(await this.isPaused())) throw new VmmError("vmm_control", "the state of a running VM cannot be saved; pause it first");
    return savePath === undefined ? await this.#saveDevices(statePath) : await this.#saveAll(statePath, savePath);
  }

  /** The RAM is in its file: the device state alone is written. */
  async #saveDevices(statePath: string): Promise<MemorySnapshot> {
    const { memory, shape } = this.spec;
    const { build } = this.#parts.record;
    const writtenPath = path.join(this.#parts.paths.jail, STATE_FILE);
    await fs.rm(writtenPath, { force: true });
    await this.#migrate(`file:${STATE_FILE},offset=${STATE_OFFSET}`);
    await sealState(writtenPath, statePath, { build, shape });
    await fs.rm(writtenPath, { force: true });
    const ram =
      memory.kind === "fresh" ? { ramPath: memory.path } : { ramPath: memory.snapshot.ramPath, ramOffset: memory.snapshot.ramOffset };
    return { ...ram, statePath, build, shape };
  }

  /** RAM and device state are written together, then taken apart. */
  async #saveAll(statePath: string, savePath: string): Promise<MemorySnapshot> {
    const { shape } = this.spec;
    const { record, accelerator } = this.#parts;
    const { build } = record;
    const ramBytes = ramMib(shape) * 1024 * 1024;
    // What QEMU finds zero it does not write, so nothing may be there from before.
    await fs.truncate(savePath, 0);
    await this.#execute("migrate-set-capabilities", mappedRam(true));
    await this.#execute("migrate-set-parameters", { "max-bandwidth": BANDWIDTH_MAX });
    try {
      await this.#migrate(saveUri(planFiles(this.spec, accelerator)));
    } finally {
      await this.#execute("migrate-set-capabilities", mappedRam(false)).catch(ignore("the VM is ending"));
    }
    await using file = await fs.open(savePath, "r+");
    const { stream, ramOffset } = await splitMappedRam(file, { ramId: RAM_ID, ramBytes });
    await file.truncate(ramOffset + ramBytes);
    await sealStream(stream, statePath, { build, shape });
    return { ramPath: savePath, ramOffset, statePath, build, shape };
  }

  async #migrate(uri: string): Promise<void> {
    await withDeadline("the VM's state", { timeoutMs: SAVE_TIMEOUT_MS }, async (signal) => {
      // A QEMU that is killed half way announces nothing more.
      const ended = new AbortController();
      void this.exited.then(() => ended.abort(gone()));
      const end = this.#parts.control.next(migrationEnd, AbortSignal.any([signal, ended.signal]));
      end.catch(ignore("reported by the commands"));
      await Promise.all([this.#execute("migrate-set-capabilities", MIGRATION_CAPABILITIES), this.#execute("migrate", { uri })]);
      if ((await end) === "failed") throw new VmmError("vmm_control", "QEMU could not write the VM's state");
    });
  }

  async console(): Promise<string> {
    const consolePath = this.#parts.paths.console;
    const kept = (await findText(consolePath)) ?? "";
    if (this.#exit) return kept;
    // Reading empties QEMU's buffer, so what was read is kept here.
    const fresh = z.string().parse(await this.#execute("ringbuf-read", { device: CONSOLE_ID, size: CONSOLE_BYTES, format: "base64" }));
    const text = (kept + Buffer.from(fresh, "base64").toString("utf8")).slice(-CONSOLE_BYTES);
    await fs.writeFile(consolePath, text, { mode: 0o600 });
    return text;
  }

  async kill(): Promise<void> {
    if (this.#exit) return;
    this.#isKilled = true;
    await this.#parts.watch.kill();
    // Watching does not keep the program running; this wait has to.
    await withDeadline("the end of a killed VM", { timeoutMs: KILL_TIMEOUT_MS }, () => this.exited);
  }

  async dispose(): Promise<void> {
    assert(this.#exit, "a VM is disposed of only after its process ended");
    await this.#lastWords;
    await fs.rm(this.#parts.paths.directory, { recursive: true, force: true });
    await removeCgroup(this.#parts.record.cgroups);
  }

  /** Lets go of the VM: it runs on, this object is of no more use. */
  detach(): void {
    this.#isDetached = true;
    this.#parts.watch.close();
    this.#parts.control.close();
  }

  async #execute(command: string, args?: Record<string, unknown>): Promise<unknown> {
    this.#requireAlive();
    return this.#parts.control.execute(command, args);
  }

  /** QEMU keeps a machine that its guest has ended, so that the console can be read; nothing else does. Never rejects. */
  async #endMachine(): Promise<void> {
    try {
      await withDeadline("the last words of a guest", { timeoutMs: LAST_WORDS_TIMEOUT_MS }, async () => {
        await this.console();
        await this.#execute("quit");
      });
    } catch {
      // Ended without its last words. One that was let go of stays as it is for whoever adopts it.
      if (!this.#isDetached) await this.#parts.watch.kill().catch(ignore("its end is awaited by whoever needs it"));
    }
  }

  async #awaitExit(): Promise<VmExit> {
    const { watch, control, paths } = this.#parts;
    const end = await watch.ended;
    await Promise.race([control.drained(), sleep(DRAIN_TIMEOUT_MS)]);
    const isGuest = control.announcedEnd === undefined ? end.code === 0 : control.announcedEnd === "guest";
    control.close();
    await this.#lastWords;
    const detail = await lastLines(paths);
    this.#exit = { kind: this.#isKilled ? "requested" : isGuest ? "guest" : "crashed", detail };
    return this.#exit;
  }

  #requireAlive(): void {
    if (this.#exit) throw gone();
  }
}

/** What the guest said last, as far as it was read, and after it QEMU itself. */
async function lastLines(paths: VmPaths): Promise<string> {
  const [console, log] = await Promise.all([
    findText(paths.console).catch(ignore("the log may tell enough")),
    logTail(paths.log, DETAIL_BYTES_MAX).catch(ignore("the console may tell enough")),
  ]);
  return [console?.slice(-DETAIL_BYTES_MAX), log].filter((text) => text !== undefined && text !== "").join("\n");
}

function gone(): VmmError {
  return new VmmError("vmm_exited_early", "the VM has ended");
}
