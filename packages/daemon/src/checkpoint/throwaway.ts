/**
 * Machines that live for one question: the trial of a kept memory, a look into a checkpoint. They
 * run on clones, reach no network, are on no record, and a daemon that starts ends what an earlier
 * one left of them.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { Scope } from "@sprited/base";
import type { DiskPool, DiskVerdict } from "@sprited/disk";
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

/** Resumes clones of a kept memory once. Whether its agent answered is the verdict; what this host lacks is none and passes. */
export async function trialResume(
  options: ThrowawayOptions,
  clone: CheckpointPaths,
  meta: CheckpointMeta,
  call: { signal: AbortSignal },
): Promise<DiskVerdict> {
  const spec = specOf(clone, meta, "trial");
  const memory = meta.memory?.record;
  if (!memory) return { healthy: true, detail: "" };
  const problem = await options.machines.memoryProblem(memory, spec);
  if (problem !== undefined) return { healthy: true, detail: `not tried: ${problem}` };
  const record = await options.machines.plan("trial", { signal: call.signal });
  try {
    const machine = await options.machines.start(record, spec, { memory, signal: call.signal });
    try {
      await (await machine.link({ signal: call.signal })).status({ signal: call.signal, timeoutMs: ANSWER_TIMEOUT_MS });
      return { healthy: true, detail: "" };
    } finally {
      await machine.kill();
    }
  } catch (error) {
    call.signal.throwIfAborted();
    if (error instanceof GuestError || (error instanceof VmmError && error.code !== "vmm_network")) {
      return { healthy: false, detail: `${error.code}: ${error.message}` };
    }
    throw error;
  }
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
