/** Measures of save points and copies: how long they hold a guest up, and how soon what they make answers. */
import fs from "node:fs/promises";
import path from "node:path";
import { waitFor } from "@sprited/base";
import { dataExtents } from "@sprited/disk";
import { ExecSocket } from "../kit/exec-socket.ts";
import { uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";
import { askFor, type Bench, createAndEcho, deleteSprite, echoMs, echoPatiently, sleepSprite, spriteDirectory } from "./bench.ts";
import { cloneSleeping, goOn, stopAndSave } from "./raw-memory.ts";
import { firstOutput, newIdentity, prepareRawPlace, type RawVm, startRawVm } from "./raw-vm.ts";
import { type Figure, interleave, samplesOf, timed } from "./rounds.ts";
import { newSleeper, wakeRaw } from "./sleep-measures.ts";

/** Forks made at once. */
const FORKS = 16;
const MIB = 1024 * 1024;
/** Data on disks, MiB, how it lies in the host's file, and how large the disk is when not as large as every other. */
const DISKS: Record<"small" | "large" | "scattered", DiskData> = {
  small: { mib: 96, pieceMib: 16 },
  large: { mib: 4_800, pieceMib: 16 },
  scattered: { mib: 4_800, pieceMib: 1 },
};
/** The same in full. */
const DISKS_FULL: typeof DISKS = {
  ...DISKS,
  small: { mib: 1_024, pieceMib: 64, isWhole: true },
  large: { mib: 51_200, pieceMib: 64, isWhole: true, storageGb: 120 },
};
/** Data that is not on the disk yet when a save point is asked for, MiB. */
const DIRTY_MIB = 16;
/** Longest shell command, ms. */
const SHELL_TIMEOUT_MS = 600_000;
/** Longest wait for the check of a save point, ms. */
const CHECK_TIMEOUT_MS = 600_000;

interface DiskData {
  mib: number;
  pieceMib: number;
  /** The pieces follow each other, as what was written in one go does; otherwise there is a hole after each. */
  isWhole?: boolean;
  storageGb?: number;
}

/** Makes a save point; resolves with how long the guest was held up, ms, when its check is over. */
async function checkpointPauseMs(bench: Bench, name: string, options: { memory: boolean }): Promise<number> {
  const { daemon } = bench;
  const before = pausesIn(await daemon.log()).length;
  const { text } = await askFor(daemon, 200, `/v1/sprites/${name}/checkpoint`, { method: "POST", json: options });
  const last = JSON.parse(text.trim().split("\n").at(-1) ?? "{}") as { type?: string; id?: string; memory?: boolean };
  if (last.type !== "complete" || last.memory !== options.memory) throw new Error(`no such save point was made: ${text}`);
  await waitFor("the check", { timeoutMs: CHECK_TIMEOUT_MS, everyMs: 200 }, async () => {
    const { json } = await askFor(daemon, 200, `/v1/sprites/${name}/checkpoints/${last.id}`, {});
    return json["state"] !== "verifying";
  });
  const [pausedMs] = pausesIn(await daemon.log()).slice(before);
  if (pausedMs === undefined) throw new Error("the server does not say how long the guest was held up");
  return pausedMs;
}

/** What the server logged of all save points so far. */
function pausesIn(log: string): number[] {
  return [...log.matchAll(/"event":"checkpoint\.create".*?"pausedMs":([0-9.]+)/g)].map((match) => Number(match[1]));
}

/** Runs a shell command that may take long. */
async function shell(bench: Bench, name: string, script: string): Promise<void> {
  const exec = await ExecSocket.open(bench.daemon, name, { cmd: ["sh", "-c", script], stdin: "false" });
  await exec.end(SHELL_TIMEOUT_MS);
  if (exec.exitPayload?.[0] !== 0) throw new Error(`${script} failed: ${exec.stream(2).toString()}`);
}

/**
 * Gives a disk much data: the guest's file system holds the file, and the host's file pieces that it
 * had not. Written from the host, while the sprite is cold: what was a hole and read as
 * zeros is zeros still.
 */
async function fillDisk(bench: Bench, name: string, { mib, pieceMib, isWhole }: DiskData): Promise<void> {
  bench.say(`writing ${mib} MiB …`);
  await shell(bench, name, `fallocate -l ${mib}M /home/sprite/data; sync`);
  await askFor(bench.daemon, 200, `/v1/sprites/${name}/sleep`, { method: "POST", json: { cold: true } });
  const disk = path.join(await spriteDirectory(bench.daemon, name), "disk.raw");
  const extents = await dataExtents(disk);
  const bytes = pieceMib * MIB;
  const isHole = (offset: number): boolean => !extents.some((each) => each.offset < offset + bytes && offset < each.offset + each.length);
  await using file = await fs.open(disk, "r+");
  const { size } = await file.stat();
  const zeros = Buffer.alloc(bytes);
  let written = 0;
  for (let at = 0; at + bytes <= size && written < mib; at += isWhole ? bytes : 2 * bytes) {
    if (!isHole(at)) continue;
    await file.write(zeros, 0, bytes, at);
    written += pieceMib;
  }
  await file.sync();
  await echoMs(bench.daemon, name);
}

/** Save points of the disk, of sprites with little data and with much. */
export async function measureDiskCheckpoint(bench: Bench): Promise<Figure[]> {
  const { daemon } = bench;
  const isFull = bench.scale === 1;
  const disks = isFull ? DISKS_FULL : DISKS;
  const newDisk = async (kind: keyof typeof DISKS): Promise<string> => {
    const name = uniqueName(kind);
    const { storageGb } = disks[kind];
    await createAndEcho(daemon, name, storageGb === undefined ? {} : { config: { storage_gb: storageGb } });
    await fillDisk(bench, name, disks[kind]);
    return name;
  };
  const pauseOf = (name: string) => async (): Promise<number> => {
    await shell(bench, name, `dd if=/dev/zero of=/home/sprite/new bs=1M count=${DIRTY_MIB} 2>/dev/null`);
    return await checkpointPauseMs(bench, name, { memory: false });
  };
  const small = await newDisk("small");
  const large = await newDisk("large");
  const { a, b } = await interleave(bench.rounds, pauseOf(large), pauseOf(small));
  for (const name of [small, large]) await deleteSprite(daemon, name);
  const scattered = await newDisk("scattered");
  const pauses: number[] = [];
  for (let round = 0; round <= Math.ceil(bench.rounds / 2); round += 1) pauses.push(await pauseOf(scattered)());
  await deleteSprite(daemon, scattered);
  const baseline = { what: `with ${disks.small.mib} MiB`, samples: b };
  return [
    {
      id: "checkpoint-disk",
      what: `save point of the disk: the guest cannot write (${disks.small.mib} MiB of data)`,
      unit: "ms",
      product: b,
      baseline: undefined,
      target: { kind: "value_max", value: 30 },
      note: `${DIRTY_MIB} MiB were written just before and are flushed before the guest is held up; the time begins when it is.`,
    },
    {
      id: "checkpoint-size",
      what: `the same with ${disks.large.mib} MiB of data`,
      unit: "ms",
      product: a,
      baseline,
      target: { kind: "difference_max", value: 10 },
      note: isFull
        ? "both written in one go; the file system of the host decides in how many extents it lies."
        : `in pieces of ${disks.large.pieceMib} MiB with holes between. Scaled down from 1 GB against 50 GB.`,
    },
    {
      id: "checkpoint-scattered",
      what: `the same with ${disks.scattered.mib} MiB of data, every second MiB a piece of its own`,
      unit: "ms",
      product: samplesOf(pauses.slice(1)),
      baseline,
      target: undefined,
      note: "what a clone takes grows with the number of pieces that the host's file consists of, whatever their size.",
    },
  ];
}

/** Save points with memory, of a sprite whose RAM is in a file of its own. */
export async function measureMemoryCheckpoint(bench: Bench): Promise<Figure[]> {
  const sleeper = await newSleeper(bench);
  const { a, b } = await interleave(
    bench.rounds,
    async () => {
      await echoMs(bench.daemon, sleeper.name);
      const ms = await checkpointPauseMs(bench, sleeper.name, { memory: true });
      await sleepSprite(bench.daemon, sleeper.name);
      return ms;
    },
    async () => {
      let ms = 0;
      await wakeRaw(bench, sleeper, async (_vm, place) => {
        ms = await timed(async () => {
          await stopAndSave(sleeper.template, place);
          await goOn(place);
        });
      });
      return ms;
    },
  );
  await deleteSprite(bench.daemon, sleeper.name);
  return [
    {
      id: "checkpoint-memory",
      what: "save point with memory: the guest stands still",
      unit: "ms",
      product: a,
      baseline: { what: "QEMU `stop`, device state saved, files flushed, `cont`", samples: b },
      target: { kind: "difference_max", value: 100 },
      note: "of a sprite that has slept before: its RAM lies in a file already. The product's time ends when the guest has the time of now and fresh randomness and its agent has answered.",
    },
  ];
}

/** A restored sprite's first answer beside a new one's. */
export async function measureRestore(bench: Bench): Promise<Figure[]> {
  const { daemon } = bench;
  const name = uniqueName("restored");
  await createAndEcho(daemon, name);
  await checkpointPauseMs(bench, name, { memory: false });
  const { a, b } = await interleave(
    bench.rounds,
    async () => {
      const restore = await timed(async () => {
        const { text } = await askFor(daemon, 200, `/v1/sprites/${name}/checkpoints/v0/restore`, { method: "POST" });
        if (!text.includes('"complete"')) throw new Error(`not restored: ${text}`);
      });
      return restore + (await echoMs(daemon, name));
    },
    async () => {
      const other = uniqueName("created");
      const create = await timed(() => createSprite(daemon, other));
      const echo = await echoMs(daemon, other);
      await deleteSprite(daemon, other);
      return create + echo;
    },
  );
  await deleteSprite(daemon, name);
  return [
    {
      id: "restore",
      what: "restore of a running sprite → first `echo` answered",
      unit: "ms",
      product: a,
      baseline: { what: "create → first `echo` answered", samples: b },
      target: { kind: "ratio_max", value: 1.3 },
      note: "the state before is flushed and kept as a save point first; that is part of the product's time.",
    },
  ];
}

/** Forks with memory that all answer, beside raw clones of the same files. */
export async function measureFork(bench: Bench): Promise<Figure[]> {
  const { daemon } = bench;
  const sleeper = await newSleeper(bench);
  const { a, b } = await interleave(
    Math.max(1, Math.floor(bench.rounds / 3)),
    async () => {
      await echoMs(daemon, sleeper.name);
      const names = Array.from({ length: FORKS }, () => uniqueName("fork"));
      const ms = await timed(async () => {
        await askFor(daemon, 201, `/v1/sprites/${sleeper.name}/fork`, { method: "POST", json: { names, memory: true } });
        await Promise.all(names.map((name) => echoPatiently(daemon, name)));
      });
      await Promise.all(names.map((name) => deleteSprite(daemon, name)));
      await sleepSprite(daemon, sleeper.name);
      return ms / FORKS;
    },
    async () => {
      const places = await Promise.all(
        Array.from({ length: FORKS }, () => prepareRawPlace({ directory: bench.rawDirectory, slots: bench.slots })),
      );
      const vms: RawVm[] = [];
      const ms = await timed(() =>
        Promise.all(
          places.map(async (place) => {
            await cloneSleeping(sleeper.files, place);
            const vm = await startRawVm(sleeper.template, place, newIdentity());
            vms.push(vm);
            await firstOutput(vm);
          }),
        ),
      );
      await Promise.all(vms.map((vm) => vm[Symbol.asyncDispose]()));
      await Promise.all(places.map((place) => place[Symbol.asyncDispose]()));
      return ms / FORKS;
    },
  );
  await deleteSprite(daemon, sleeper.name);
  return [
    {
      id: "fork",
      what: `fork with memory, per child of ${FORKS}: from the request until all have answered an \`echo\``,
      unit: "ms",
      product: a,
      baseline: { what: `${FORKS} times clones of disk and memory by reflink + QEMU resume + \`echo\``, samples: b },
      target: { kind: "ratio_max", value: 1.3 },
      note: "the product's source runs and is held still once, which is part of its time; the raw copies are of files at rest. Every child gets an identity of its own on both sides.",
    },
  ];
}
