/**
 * The QEMU driver: starts VMs cold or from memory snapshots, and finds them again.
 *
 * Start of a VM: directory, groups and files are prepared; the launcher becomes QEMU; the moment
 * its control socket accepts, the incoming state is named in one write without waiting for
 * replies in between; the guest runs when QEMU announces it. Every failure takes back everything.
 */
import fs from "node:fs/promises";
import { ignore, type Logger, Scope, sleep, withDeadline } from "@sprited/base";
import { VmmError } from "../errors.ts";
import type { VmmDriver, VmProcess, VmSpec } from "../vmm.ts";
import { type AcceleratorKind, checkSpec, CONTROL_SOCKET, incomingUri, planFiles, qemuArgs, type QemuProgram } from "./args.ts";
import { type CgroupHierarchy, createCgroup, openCgroups, planCgroup, removeCgroup, vmLimits } from "./cgroup.ts";
import { QemuControl } from "./control.ts";
import { openVmFiles, removeFreshRam } from "./files.ts";
import { isAlive, launch, logTail, parseIdentity, type ProcessIdentity, ProcessWatch, watchLaunched } from "./process.ts";
import { forgetUsed, giveBack, onceState, usedUp } from "./once.ts";
import { createVmDirectory, findRecord, findText, type VmPaths, vmPaths, type VmRecord, writeRecord } from "./record.ts";
import { unusable, verifySnapshot } from "./snapshot.ts";
import { measureTscKhz } from "./tsc.ts";
import { buildName, hasMappedRam, requireVersion } from "./version.ts";
import { MIGRATION_CAPABILITIES, migrationEnd, QemuVm, runState } from "./vm.ts";

/** Longest start until the guest's vCPUs run, ms; a host that starts many at once under emulation is slow. */
const START_TIMEOUT_MS = 60_000;
/** Default cache of translated code under TCG, MiB; QEMU's own default of 1 GiB costs that much memory per VM. */
const TB_SIZE_MIB = 64;
/** How long a VM that was found while it resumed may take to run, ms. */
const RESUMING_MS = 10_000;
const RESUMING_EVERY_MS = 20;

export interface QemuDriverOptions {
  program: QemuProgram;
  /** What the program prints for `--version`. */
  version: string;
  accelerator: { kind: AcceleratorKind; reason: string };
  /** Cache of translated code per VM under TCG, MiB. */
  tbSizeMib?: number;
  logger: Logger;
}

/** Opens the driver. Throws `vmm_unavailable` when the program is too old. */
export async function openQemuDriver(options: QemuDriverOptions): Promise<VmmDriver> {
  const build = await buildName(requireVersion(options.version), options.accelerator.kind);
  return new QemuDriver({ ...options, build, cgroups: await openCgroups(options.logger) });
}

class QemuDriver implements VmmDriver {
  readonly name = "qemu";
  readonly build: string;
  readonly savesPrivateMemory: boolean;
  readonly accelerator: { kind: AcceleratorKind; reason: string };
  readonly #options: QemuDriverOptions;
  readonly #cgroups: CgroupHierarchy;
  readonly #tbSizeMib: number;
  readonly #live = new Set<QemuVm>();
  #tscKhz: Promise<number | undefined> | undefined;

  constructor(options: QemuDriverOptions & { build: string; cgroups: CgroupHierarchy }) {
    this.build = options.build;
    this.savesPrivateMemory = hasMappedRam(requireVersion(options.version));
    this.accelerator = options.accelerator;
    this.#options = options;
    this.#cgroups = options.cgroups;
    this.#tbSizeMib = options.tbSizeMib ?? TB_SIZE_MIB;
  }

  async start(spec: VmSpec, options: { signal?: AbortSignal } = {}): Promise<VmProcess> {
    const deadline = AbortSignal.timeout(START_TIMEOUT_MS);
    // Not raced against the deadline: a start that is called off ends when all of it is taken back.
    try {
      return await this.#start(spec, options.signal ? AbortSignal.any([options.signal, deadline]) : deadline);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!deadline.aborted) throw error;
      throw new VmmError("vmm_timeout", "the VM did not start in time", { cause: error });
    }
  }

  async adopt(directory: string): Promise<VmProcess | undefined> {
    const paths = vmPaths(directory);
    const record = await findRecord(paths);
    const identity = parseIdentity(await findText(paths.process));
    const isRunning = identity !== undefined && (await isAlive(identity));
    const isStarted =
      (await findText(paths.started)) !== undefined || (isRunning && record && (await this.#finishResume(record, paths, identity)));
    if (isRunning && record && isStarted) {
      const watch = new ProcessWatch(identity, { logPath: paths.log });
      return this.#manage(
        { build: record.build, cgroups: record.cgroups, spec: { ...record.spec, directory } },
        paths,
        watch,
        controlOf(paths, watch),
      );
    }
    if (isRunning) {
      const watch = new ProcessWatch(identity, { logPath: paths.log });
      await watch.kill();
    }
    await fs.rm(directory, { recursive: true, force: true });
    await removeCgroup(record?.cgroups ?? []);
    return undefined;
  }

  /** Whether a resume of a snapshot `once` that was cut off came as far as a running guest. If not, the snapshot is as it was. */
  async #finishResume(record: VmRecord, paths: VmPaths, identity: ProcessIdentity): Promise<boolean> {
    const statePath = onceState(record.spec);
    if (statePath === undefined) return false;
    const watch = new ProcessWatch(identity, { logPath: paths.log });
    const control = controlOf(paths, watch);
    try {
      const deadline = performance.now() + RESUMING_MS;
      while ((await runState(control)).status === "inmigrate" && performance.now() < deadline) await sleep(RESUMING_EVERY_MS);
      // Killed while it still waited: it can run no more, and has not.
      if ((await runState(control)).status === "inmigrate") {
        await watch.kill();
        await giveBack(statePath);
        return false;
      }
      await fs.writeFile(paths.started, "");
      return true;
    } catch (error) {
      this.#options.logger.warn(
        { event: "vmm.adopt", outcome: "failed", incarnation: record.spec.incarnation, err: error },
        "a resume was cut off",
      );
      return false;
    } finally {
      control.close();
      watch.close();
    }
  }

  async close(): Promise<void> {
    for (const vm of this.#live) vm.detach();
    this.#live.clear();
  }

  async #start(spec: VmSpec, signal: AbortSignal): Promise<VmProcess> {
    signal.throwIfAborted();
    const steps = new StepTimes();
    await using scope = new Scope(`start of VM ${spec.incarnation}`);
    const paths = vmPaths(spec.directory);
    checkSpec(spec);
    const plan = planCgroup(this.#cgroups, spec.incarnation, vmLimits(spec.shape, this.#tbSizeMib));
    const cgroups = plan.groups.map((group) => group.path);
    if (spec.memory.kind === "snapshot") await verifySnapshot(spec.memory.snapshot, { build: this.build, shape: spec.shape });
    await createVmDirectory(paths, spec.jail);
    scope.defer("VM directory", () => fs.rm(paths.directory, { recursive: true, force: true }));
    const record: VmRecord = { build: this.build, cgroups, spec };
    // The record first: it names the groups, for whoever finds them after a sudden end.
    await writeRecord(paths, record);
    await createCgroup(plan);
    scope.defer("control groups", () => removeCgroup(cgroups));
    const kernelArguments = spec.memory.kind === "fresh" ? await this.#kernelArguments(`${paths.directory}/clock`) : [];
    const facts = {
      dataPaths: this.#options.program.dataPaths,
      accelerator: this.accelerator.kind,
      tbSizeMib: this.#tbSizeMib,
      kernelArguments,
    };
    const args = qemuArgs(spec, facts);
    steps.mark("prepared");

    const watch = await this.#launch(record, paths, { args, signal, scope });
    steps.mark("launched");
    const control = controlOf(paths, watch);
    scope.defer("control session", () => control.close());
    const ended = new AbortController();
    void watch.ended.then(() => ended.abort(new VmmError("vmm_exited_early", "QEMU ended before its guest ran")));
    try {
      await this.#run(spec, control, AbortSignal.any([signal, ended.signal]), steps);
    } catch (error) {
      signal.throwIfAborted();
      throw ended.signal.aborted ? await this.#explainEnd(paths, spec, ended.signal.reason) : error;
    }
    await fs.writeFile(paths.started, "");
    const statePath = onceState(spec);
    if (statePath !== undefined) await forgetUsed(statePath);
    steps.mark("recorded");
    this.#options.logger.debug(
      {
        event: "vmm.start",
        outcome: "ok",
        incarnation: spec.incarnation,
        memory: spec.memory.kind,
        pid: watch.identity.pid,
        stepMs: steps.all,
      },
      "VM runs",
    );
    const vm = this.#manage(record, paths, watch, control);
    scope.move();
    return vm;
  }

  /** The launcher with every file open, until it has said who it is. */
  async #launch(record: VmRecord, paths: VmPaths, context: { args: string[]; signal: AbortSignal; scope: Scope }): Promise<ProcessWatch> {
    const { spec } = record;
    const { signal, scope } = context;
    if (spec.memory.kind === "fresh") scope.defer("RAM file", () => removeFreshRam(spec));
    await using files = await openVmFiles(planFiles(spec, this.accelerator.kind), spec);
    await using log = await fs.open(paths.log, "a", 0o600);
    signal.throwIfAborted();
    const plan = {
      program: this.#options.program.path,
      args: context.args,
      jail: spec.jail,
      cgroups: record.cgroups,
      identityPath: paths.process,
    };
    const child = await launch(plan, { directory: paths.jail, log: log.fd, files: files.descriptors });
    return await watchLaunched(child, paths, { signal, scope });
  }

  /** Connects, hands over the state of a snapshot, and resolves when the vCPUs run. */
  async #run(spec: VmSpec, control: QemuControl, signal: AbortSignal, steps: StepTimes): Promise<void> {
    const statePath = onceState(spec);
    await usedUp(statePath, () => control.open({ timeoutMs: START_TIMEOUT_MS, signal }));
    steps.mark("connected");
    if (spec.memory.kind === "fresh") {
      // QEMU answers once its machine is made, and starts the vCPUs in the same step.
      await control.execute("query-status", undefined, { signal, timeoutMs: START_TIMEOUT_MS });
      steps.mark("running");
      return;
    }
    const running = control.next(
      (event) => (event.event === "RESUME" ? "running" : migrationEnd(event) === "failed" ? "failed" : undefined),
      signal,
    );
    running.catch(ignore("reported by the commands"));
    await Promise.all([
      control.execute("migrate-set-capabilities", MIGRATION_CAPABILITIES, { signal, timeoutMs: START_TIMEOUT_MS }),
      control.execute(
        "migrate-incoming",
        { uri: incomingUri(planFiles(spec, this.accelerator.kind)) },
        { signal, timeoutMs: START_TIMEOUT_MS },
      ),
    ]);
    steps.mark("incoming");
    // The session does not keep the program running; this wait has to.
    const outcome = await withDeadline("the resume", { timeoutMs: START_TIMEOUT_MS, signal }, () => running);
    if (outcome === "failed") throw unusable("QEMU refused its device state");
    steps.mark("running");
  }

  async #explainEnd(paths: VmPaths, spec: VmSpec, early: unknown): Promise<unknown> {
    const log = await logTail(paths.log, 4_096);
    if (spec.memory.kind === "snapshot" && /load of migration failed|error while loading state/.test(log)) {
      return unusable("QEMU refused its device state", new Error(log));
    }
    return early instanceof VmmError ? new VmmError(early.code, early.message, { cause: new Error(log) }) : early;
  }

  /**
   * Under TCG a guest on a busy host cannot measure its clock and never boots; it is told. Measured
   * once, in a directory of the first VM that asks; a start that is called off waits for it too.
   */
  async #kernelArguments(directory: string): Promise<string[]> {
    if (this.accelerator.kind !== "tcg") return [];
    const { program, logger } = this.#options;
    this.#tscKhz ??= measureTscKhz(program, { directory, logger }).catch((err: unknown) => {
      this.#tscKhz = undefined;
      logger.warn({ event: "vmm.tsc", outcome: "failed", err }, "the guest's clock could not be measured; on a busy host it may not boot");
      return undefined;
    });
    const khz = await this.#tscKhz;
    return khz === undefined ? [] : [`tsc_early_khz=${khz}`];
  }

  #manage(record: VmRecord, paths: VmPaths, watch: ProcessWatch, control: QemuControl): QemuVm {
    const vm = new QemuVm({ record, accelerator: this.accelerator.kind, paths, watch, control });
    this.#live.add(vm);
    void vm.exited.then(() => this.#live.delete(vm));
    control.open().catch(ignore("opened again when needed"));
    return vm;
  }
}

function controlOf(paths: VmPaths, watch: ProcessWatch): QemuControl {
  return new QemuControl(`${paths.jail}/${CONTROL_SOCKET}`, () => watch.expectEnd());
}

/** How long the steps of a start took, ms since its begin. */
class StepTimes {
  readonly all: Record<string, number> = {};
  readonly #startMs = performance.now();

  mark(step: string): void {
    this.all[step] = Math.round((performance.now() - this.#startMs) * 10) / 10;
  }
}
