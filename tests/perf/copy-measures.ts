/** Measures of save points and copies: how long they hold a guest up, and how soon what they make answers. */
import { waitFor } from "@sprited/base";
import { execRaw } from "../kit/exec-socket.ts";
import { uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";
import { askFor, type Bench, createAndEcho, deleteSprite, echoMs, echoPatiently, sleepSprite } from "./bench.ts";
import { cloneSleeping, goOn, stopAndSave } from "./raw-memory.ts";
import { firstOutput, newIdentity, prepareRawPlace, type RawVm, startRawVm } from "./raw-vm.ts";
import { type Figure, interleave, timed } from "./rounds.ts";
import { newSleeper, wakeRaw } from "./sleep-measures.ts";

/** Forks made at once. */
const FORKS = 16;
/** Data on the smaller and on the larger disk, MB. */
const DATA_MB = { small: 200, large: 6_000 };
/** Data that is not on the disk yet when a save point is asked for, MB. */
const DIRTY_MB = 16;
/** Longest wait for the check of a save point, ms. */
const CHECK_TIMEOUT_MS = 600_000;

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

async function fillDisk(bench: Bench, name: string, megabytes: number, options: { flush: boolean }): Promise<void> {
  const script = `dd if=/dev/zero of=/home/sprite/data-${megabytes} bs=1M count=${megabytes} conv=notrunc 2>/dev/null${options.flush ? "; sync" : ""}`;
  const { code, stderr } = await execRaw(bench.daemon, name, { cmd: ["sh", "-c", script] });
  if (code !== 0) throw new Error(`${megabytes} MB could not be written: ${stderr.toString()}`);
}

/** Save points of the disk, of a sprite with little data and one with much. */
export async function measureDiskCheckpoint(bench: Bench): Promise<Figure[]> {
  const { daemon } = bench;
  const names = { small: uniqueName("small"), large: uniqueName("large") };
  for (const size of ["small", "large"] as const) {
    await createSprite(daemon, names[size]);
    bench.say(`writing ${DATA_MB[size]} MB …`);
    await fillDisk(bench, names[size], DATA_MB[size], { flush: true });
  }
  const pauseOf = (name: string) => async (): Promise<number> => {
    await fillDisk(bench, name, DIRTY_MB, { flush: false });
    return await checkpointPauseMs(bench, name, { memory: false });
  };
  const { a, b } = await interleave(bench.rounds, pauseOf(names.large), pauseOf(names.small));
  for (const name of Object.values(names)) await deleteSprite(daemon, name);
  return [
    {
      id: "checkpoint-disk",
      what: `save point of the disk: the guest cannot write (${DATA_MB.small} MB of data)`,
      unit: "ms",
      product: b,
      baseline: undefined,
      target: { kind: "value_max", value: 30 },
      note: `${DIRTY_MB} MB were written just before and are flushed before the guest is held up; the time begins when it is.`,
    },
    {
      id: "checkpoint-size",
      what: `the same with ${DATA_MB.large} MB of data`,
      unit: "ms",
      product: a,
      baseline: { what: `with ${DATA_MB.small} MB`, samples: b },
      target: { kind: "difference_max", value: 10 },
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
      let echo = 0;
      const restore = await timed(async () => {
        const { text } = await askFor(daemon, 200, `/v1/sprites/${name}/checkpoints/v0/restore`, { method: "POST" });
        if (!text.includes('"complete"')) throw new Error(`not restored: ${text}`);
      });
      echo = await echoMs(daemon, name);
      return restore + echo;
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
