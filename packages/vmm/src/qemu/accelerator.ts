/**
 * Which accelerator to use. That `/dev/kvm` opens, even that it creates a VM, proves nothing:
 * there are hosts where firmware runs and a stock kernel hangs. So `auto` boots a real guest
 * with KVM once; whatever is not a guest in user space is a no, and the reason is kept.
 */
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { DeadlineError, type Logger, Scope, withDeadline } from "@sprited/base";
import { z } from "zod";
import type { VmProcess, VmSpec } from "../vmm.ts";
import type { AcceleratorKind, QemuProgram } from "./args.ts";
import { openQemuDriver } from "./driver.ts";

const KVM_DEVICE = "/dev/kvm";
/** A guest under KVM is in user space within a second or two; a busy host gets ten times that, ms. */
const PROBE_TIMEOUT_MS = 25_000;

export interface Accelerator {
  kind: AcceleratorKind;
  /** One sentence for people. */
  reason: string;
}

export interface ResolveAccelerator {
  wanted: "auto" | AcceleratorKind;
  program: QemuProgram;
  version: string;
  /** Where the verdict of the probe is kept. */
  cachePath: string;
  /** A VM as real ones are, without network; booted cold and ended. */
  probeSpec(): Promise<VmSpec>;
  /** Resolves when the guest has reached user space and said so. */
  awaitGuest(vm: VmProcess, options: { signal: AbortSignal }): Promise<void>;
  logger: Logger;
  signal?: AbortSignal | undefined;
}

const verdictFile = z.object({ key: z.string(), kind: z.enum(["kvm", "tcg"]), reason: z.string() });

/** The accelerator that was asked for, or the one the probe proved. */
export async function resolveAccelerator(options: ResolveAccelerator): Promise<Accelerator> {
  if (options.wanted !== "auto") return { kind: options.wanted, reason: "set in the configuration" };
  if (!(await canOpenKvm()))
    return { kind: "tcg", reason: `${KVM_DEVICE} is missing or may not be opened; is virtualisation switched on in the firmware?` };
  const program = await fs.realpath(options.program.path).catch(() => options.program.path);
  const key = verdictKey({ kernel: `${os.release()} ${os.version()}`, cpu: os.cpus()[0]?.model ?? "", version: options.version, program });
  const known = await readVerdict(options.cachePath, key);
  if (known) return known;
  const verdict = await probe(options);
  options.logger.info({ event: "accelerator.probe", ...verdict }, "accelerator chosen");
  await fs.mkdir(path.dirname(options.cachePath), { recursive: true });
  await fs.writeFile(options.cachePath, JSON.stringify({ key, ...verdict }));
  return verdict;
}

/** What a verdict depends on. Pure. */
export function verdictKey(facts: { kernel: string; cpu: string; version: string; program: string }): string {
  return [facts.kernel, facts.cpu, facts.version, facts.program].join(" | ");
}

/** The kept verdict, unless the host or the program has changed. */
export async function readVerdict(cachePath: string, key: string): Promise<Accelerator | undefined> {
  try {
    const verdict = verdictFile.parse(JSON.parse(await fs.readFile(cachePath, "utf8")));
    return verdict.key === key ? { kind: verdict.kind, reason: verdict.reason } : undefined;
  } catch {
    return undefined;
  }
}

async function probe(options: ResolveAccelerator): Promise<Accelerator> {
  options.signal?.throwIfAborted();
  await using scope = new Scope("accelerator probe");
  const startedMs = performance.now();
  try {
    await withDeadline("the probe's guest", { timeoutMs: PROBE_TIMEOUT_MS, signal: options.signal }, async (signal) => {
      const driver = await openQemuDriver({ ...options, accelerator: { kind: "kvm", reason: "probe" }, tbSizeMib: 64 });
      const vm = await driver.start(await options.probeSpec(), { signal });
      scope.defer("probe VM", async () => {
        await vm.kill();
        await vm.dispose();
      });
      const ended = vm.exited.then((exit) => Promise.reject(new Error(`the VMM ended: ${exit.detail}`)));
      await Promise.race([options.awaitGuest(vm, { signal }), ended]);
    });
    return { kind: "kvm", reason: `a guest booted with KVM in ${Math.round(performance.now() - startedMs)} ms` };
  } catch (error) {
    options.signal?.throwIfAborted();
    options.logger.debug({ event: "accelerator.probe", err: error }, "no guest under KVM");
    const what = error instanceof DeadlineError ? `a guest did not come up within ${PROBE_TIMEOUT_MS / 1000} s` : "starting a guest failed";
    return { kind: "tcg", reason: `${KVM_DEVICE} opens, but ${what} with it` };
  }
}

async function canOpenKvm(): Promise<boolean> {
  try {
    await using _handle = await fs.open(KVM_DEVICE, "r+");
    return true;
  } catch {
    return false;
  }
}
