/**
 * The QEMU driver: starts VMs cold or from a memory snapshot, finds them again, and says what
 * the host lacks. Order of a start: directory → cgroup → process → control socket → state → run;
 * a failure gives all of it back in reverse.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { type Logger, Scope } from "@sprited/base";
import { z } from "zod";
import { VmmError } from "../errors.ts";
import type { MemorySnapshot, VmmDriver, VmProcess, VmSpec } from "../vmm.ts";
import { type AcceleratorKind, qemuArgs, type QemuProgram, vmPaths } from "./args.ts";
import { type CgroupVersion, findCgroups, makeCgroup, planCgroup, removeCgroup } from "./cgroup.ts";
import { launch } from "./launch.ts";
import { lastLines, QemuProcess } from "./process.ts";
import { QmpClient } from "./qmp.ts";
import { identify, isAlive, readRecord, writeRecord } from "./record.ts";

/** From spawn to a control socket that answers, ms; programs are paged in the first time. */
const CONTROL_TIMEOUT_MS = 30_000;
/** Loading of device state, ms. */
const INCOMING_TIMEOUT_MS = 30_000;

export interface QemuDriverOptions {
  program: QemuProgram;
  /** First line of `--version`. */
  version: string;
  accelerator: { kind: AcceleratorKind; reason: string };
  tbSizeMib: number;
  logger: Logger;
}

export async function openQemuDriver(options: QemuDriverOptions): Promise<VmmDriver> {
  const cgroups = process.getuid?.() === 0 ? await findCgroups() : ({ kind: "none", reason: "not root" } as const);
  if (cgroups.kind === "none") options.logger.warn({ event: "cgroup", reason: cgroups.reason }, "VM processes run without cgroup limits");
  const build = `${options.version}; microvm; ${options.accelerator.kind}`;
  return {
    name: "qemu",
    build,
    accelerator: options.accelerator,
    start: (spec, call) => startVm({ ...options, build, cgroups }, spec, call?.signal),
    adopt: (directory) => adoptVm({ ...options, build, cgroups }, directory),
  };
}

type Context = QemuDriverOptions & { build: string; cgroups: CgroupVersion };

async function startVm(context: Context, spec: VmSpec, signal: AbortSignal | undefined): Promise<VmProcess> {
  if (spec.memory.kind === "snapshot") await requireUsable(spec.memory.snapshot, spec, context.build);
  signal?.throwIfAborted();
  await using scope = new Scope(`VM ${spec.incarnation}`);
  await fs.mkdir(spec.directory, { recursive: true, mode: 0o700 });
  scope.defer("directory", () => fs.rm(spec.directory, { recursive: true, force: true }));
  if (spec.jail) await fs.chown(spec.directory, spec.jail.uid, spec.jail.gid);
  if (spec.memory.kind === "fresh") await prepareRam(spec.memory.path, spec);
  const cgroup = planCgroup(context.cgroups, spec.incarnation, spec.shape.memoryMib);
  scope.defer("cgroup", () => removeCgroup(cgroup.directories));
  await makeCgroup(cgroup);
  const paths = vmPaths(spec.directory);
  const { kind } = context.accelerator;
  const { pid, exited } = await launch({
    program: context.program.path,
    args: qemuArgs({ spec, program: context.program, accelerator: kind, tbSizeMib: context.tbSizeMib }),
    cgroupProcs: cgroup.procs,
    jail: spec.jail,
    logPath: paths.log,
  });
  let ended = false;
  void exited.then(() => {
    ended = true;
  });
  scope.defer("process", async () => {
    if (!ended) process.kill(pid, "SIGKILL");
    await exited;
  });
  try {
    const identity = await identify(pid);
    if (!identity) throw new VmmError("vmm_exited_early", "the VMM ended at once");
    await writeRecord(spec.directory, { identity, spec, cgroups: cgroup.directories });
    const qmp = await QmpClient.open(paths.control, { timeoutMs: CONTROL_TIMEOUT_MS, signal, stillStarting: () => !ended });
    scope.use("control socket", qmp);
    await run(qmp, spec, signal);
    const vm = new QemuProcess({ spec, identity, qmp, cgroups: cgroup.directories, build: context.build, logger: context.logger });
    scope.move();
    return vm;
  } catch (error) {
    const detail = await lastLines(paths.log);
    if (error instanceof VmmError && detail !== "") throw new VmmError(error.code, error.message, { cause: new Error(detail, { cause: error }) });
    throw error;
  }
}

/** Loads the device state if there is one, then lets the vCPUs run. */
async function run(qmp: QmpClient, spec: VmSpec, signal: AbortSignal | undefined): Promise<void> {
  const call = { timeoutMs: INCOMING_TIMEOUT_MS, signal };
  const ignoreShared = { capabilities: [{ capability: "x-ignore-shared", state: true }, { capability: "events", state: true }] };
  const sent = [qmp.execute("migrate-set-capabilities", ignoreShared, call)];
  if (spec.memory.kind === "snapshot") {
    const loaded = incomingLoaded(qmp);
    sent.push(qmp.execute("migrate-incoming", { uri: `file:${spec.memory.snapshot.statePath}` }, call));
    await Promise.all(sent);
    await Promise.race([loaded, qmp.closed.then(() => Promise.reject(new VmmError("vmm_snapshot_unusable", "the VMM could not load the memory snapshot")))]);
  } else await Promise.all(sent);
  await qmp.execute("cont", undefined, call);
}

const migrationEvent = z.object({ status: z.string() });

/** Resolves when the incoming state is in place. */
function incomingLoaded(qmp: QmpClient): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = qmp.onEvent((name, data) => {
      if (name !== "MIGRATION") return;
      const { status } = migrationEvent.parse(data);
      if (status === "completed") resolve();
      else if (status === "failed") reject(new VmmError("vmm_snapshot_unusable", "the VMM refused the memory snapshot"));
      else return;
      stop();
    });
  });
}

/** Throws `vmm_snapshot_unusable` unless the snapshot fits this build and shape and its files are whole. */
async function requireUsable(snapshot: MemorySnapshot, spec: VmSpec, build: string): Promise<void> {
  const refuse = (why: string, cause?: unknown): never => {
    throw new VmmError("vmm_snapshot_unusable", `the memory snapshot ${why}`, { cause });
  };
  if (snapshot.build !== build) refuse(`was made by ${snapshot.build}, this is ${build}`);
  if (snapshot.shape.cpus !== spec.shape.cpus || snapshot.shape.memoryMib !== spec.shape.memoryMib) refuse("is of a VM of another size");
  try {
    const [ram, state] = await Promise.all([fs.stat(snapshot.ramPath), fs.stat(snapshot.statePath)]);
    if (ram.size !== spec.shape.memoryMib * 1024 * 1024) refuse("has a RAM file of the wrong size");
    if (state.size === 0) refuse("has no device state");
  } catch (error) {
    if (error instanceof VmmError) throw error;
    refuse("has lost a file", error);
  }
}

/** The file that becomes the RAM, owned by whoever runs the VMM. */
async function prepareRam(file: string, spec: VmSpec): Promise<void> {
  await fs.mkdir(path.dirname(file), { recursive: true });
  await using handle = await fs.open(file, "w", 0o600);
  await handle.truncate(spec.shape.memoryMib * 1024 * 1024);
  if (spec.jail) await handle.chown(spec.jail.uid, spec.jail.gid);
}

async function adoptVm(context: Context, directory: string): Promise<VmProcess | undefined> {
  const record = await readRecord(directory);
  if (!record) return undefined;
  const { identity, spec, cgroups } = record;
  if (await isAlive(identity)) {
    try {
      const qmp = await QmpClient.open(vmPaths(directory).control, { timeoutMs: CONTROL_TIMEOUT_MS, stillStarting: () => false });
      return new QemuProcess({ spec, identity, qmp, cgroups, build: context.build, logger: context.logger });
    } catch (error) {
      context.logger.warn({ event: "vm.adopt", outcome: "failed", incarnation: spec.incarnation, err: error }, "a VM cannot be taken over, ending it");
      process.kill(identity.pid, "SIGKILL");
    }
  }
  await removeCgroup(cgroups);
  await fs.rm(directory, { recursive: true, force: true });
  return undefined;
}
