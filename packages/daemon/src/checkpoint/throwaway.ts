/**
 * Machines that live for one question: the trial of a kept memory, a look into a checkpoint. They
 * run on clones, reach no network, are on no record, and a daemon that starts ends what an earlier
 * one left of them.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, Scope } from "@sprited/base";
import type { DiskPool } from "@sprited/disk";
import { VmmError } from "@sprited/vmm";
import { GuestError } from "../guest/index.ts";
import type { Machine, Machines, MachineSpec } from "../machine/index.ts";
import { type CheckpointMeta, type CheckpointPaths, pathsIn } from "./files.ts";

/** Longest wait for the agent of a resumed machine, ms. */
const ANSWER_TIMEOUT_MS = 60_000;

export interface ThrowawayOptions {
  /** Machines without a network. */
  machines: Machines;
  pool: DiskPool;
  /** Directory for clones. */
  scratch: string;
}

/** A machine over clones; disposing ends it and removes them. */
export interface Throwaway extends AsyncDisposable {
  machine: Machine;
}

/** What a trial of a kept memory showed. */
export interface Trial {
  /** `refused`: the VMM does not take the memory; `silent`: it runs, and its agent did not answer. */
  outcome: "answered" | "refused" | "silent";
  detail: string;
}

/**
 * Resumes clones of a kept memory once. A memory that this host is not made for passes untried.
 * Throws what says nothing about the memory: a VM that was ended, no room or memory on the host.
 */
export async function trialResume(
  options: ThrowawayOptions,
  clone: CheckpointPaths,
  meta: CheckpointMeta,
  call: { signal: AbortSignal },
): Promise<Trial> {
  const spec = specOf(clone, meta, "trial");
  const memory = meta.memory?.record;
  if (!memory) return { outcome: "answered", detail: "" };
  const problem = await options.machines.memoryProblem(memory, spec);
  if (problem !== undefined) return { outcome: "answered", detail: `not tried: ${problem}` };
  const record = await options.machines.plan("trial", { signal: call.signal });
  try {
    const machine = await options.machines.start(record, spec, { memory, signal: call.signal });
    const ended = machine.exited.then(() => {
      throw new VmmError("vmm_exited_early", "the VM of a trial was ended");
    });
    ended.catch(ignore("raced below"));
    try {
      await Promise.race([ended, answered(machine, call.signal)]);
      return { outcome: "answered", detail: "" };
    } finally {
      await machine.kill();
    }
  } catch (error) {
    call.signal.throwIfAborted();
    if (error instanceof VmmError && error.code === "vmm_snapshot_unusable") return { outcome: "refused", detail: error.message };
    if (error instanceof GuestError) return { outcome: "silent", detail: `${error.code}: ${error.message}` };
    throw error;
  }
}

async function answered(machine: Machine, signal: AbortSignal): Promise<void> {
  await (await machine.link({ signal })).status({ signal, timeoutMs: ANSWER_TIMEOUT_MS });
}

/** Starts a machine from the boot snapshot whose disk is a clone of the checkpoint's. */
export async function openThrowaway(
  options: ThrowawayOptions,
  from: { paths: CheckpointPaths; meta: CheckpointMeta; spriteName: string },
  call: { signal?: AbortSignal | undefined } = {},
): Promise<Throwaway> {
  const { meta, spriteName } = from;
  await using scope = new Scope("a look into a checkpoint");
  const paths = pathsIn(path.join(options.scratch, `look-${randomBytes(6).toString("hex")}`));
  await fs.mkdir(paths.directory, { recursive: true, mode: 0o711 });
  scope.defer("clone", () => fs.rm(paths.directory, { recursive: true, force: true }));
  await options.pool.clone(from.paths.diskPath, paths.diskPath, { durable: false, signal: call.signal });
  const record = await options.machines.plan("look", { signal: call.signal });
  const machine = await options.machines.start(record, specOf(paths, meta, spriteName), { signal: call.signal });
  scope.defer("machine", () => machine.kill());
  const owned = scope.move();
  return { machine, [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose]() };
}

/** With the name that is on the disk nothing is written when the machine enters it. */
function specOf(paths: CheckpointPaths, meta: CheckpointMeta, hostname: string): MachineSpec {
  return {
    shape: { cpus: meta.config.cpus, memoryMib: meta.config.memoryMib },
    storageGb: meta.config.storageGb,
    diskPath: paths.diskPath,
    memoryDirectory: paths.memoryDirectory,
    hostname,
    machineId: "0".repeat(32),
    renewIdentity: false,
    environment: {},
  };
}
