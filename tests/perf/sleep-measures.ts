/** Measures of sleep: how long it takes a sprite away, and how long the way back is. */
import { waitFor } from "@sprited/base";
import { execRaw } from "../kit/exec-socket.ts";
import { uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";
import { askFor, type Bench, createAndEcho, deleteSprite, echoMs, sleepSprite, spriteDirectory, templateOf } from "./bench.ts";
import { prepareSleepingPlace, type SleepingFiles, sleepingFiles, stopAndSave } from "./raw-memory.ts";
import { firstOutput, type RawIdentity, type RawVm, startRawVm, type VmTemplate } from "./raw-vm.ts";
import { type Figure, interleave, samplesOf, timed } from "./rounds.ts";

/** Longest wait until an idle sprite is paused, ms. */
const PAUSE_TIMEOUT_MS = 120_000;

/** A sprite that sleeps with a memory in files of its own, and how its VM is started. */
export interface Sleeper {
  name: string;
  template: VmTemplate;
  files: SleepingFiles;
  identity: RawIdentity;
}

/** Makes one: awake once, asleep, awake again, asleep. */
export async function newSleeper(bench: Bench): Promise<Sleeper> {
  const { daemon } = bench;
  const name = uniqueName("sleeper");
  await createAndEcho(daemon, name);
  const { stdout } = await execRaw(daemon, name, { cmd: ["cat", "/etc/machine-id"] });
  await sleepSprite(daemon, name);
  await echoMs(daemon, name);
  const template = await templateOf(daemon, name);
  await sleepSprite(daemon, name);
  const files = sleepingFiles(await spriteDirectory(daemon, name));
  return { name, template, files, identity: { hostname: name, machine_id: stdout.toString().trim(), renew: false } };
}

/** Wakes a raw copy of a sleeper; `then` goes on with it before it ends. Resolves with the time to the first answer, ms. */
export async function wakeRaw(
  bench: Bench,
  sleeper: Sleeper,
  then: (vm: RawVm, place: Awaited<ReturnType<typeof prepareSleepingPlace>>) => Promise<void> = async () => {},
): Promise<number> {
  await using place = await prepareSleepingPlace({ directory: bench.rawDirectory, slots: bench.slots, files: sleeper.files });
  let vm: RawVm | undefined;
  try {
    const ms = await timed(async () => {
      vm = await startRawVm(sleeper.template, place, sleeper.identity);
      await firstOutput(vm);
    });
    if (vm) await then(vm, place);
    return ms;
  } finally {
    await vm?.[Symbol.asyncDispose]();
  }
}

/** Wakes and hibernations of one sprite and of raw copies of it, in turn. */
export async function measureHibernation(bench: Bench): Promise<Figure[]> {
  const { daemon, rounds } = bench;
  const sleeper = await newSleeper(bench);
  const sleeps = { product: [] as number[], raw: [] as number[] };
  const wake = await interleave(
    rounds,
    async () => {
      const ms = await echoMs(daemon, sleeper.name);
      sleeps.product.push(await timed(() => sleepSprite(daemon, sleeper.name)));
      return ms;
    },
    () =>
      wakeRaw(bench, sleeper, async (vm, place) => {
        const saved = await timed(() => stopAndSave(sleeper.template, place));
        sleeps.raw.push(saved + (await timed(async () => await vm[Symbol.asyncDispose]())));
      }),
  );
  await deleteSprite(daemon, sleeper.name);
  return [
    {
      id: "hibernate",
      what: "hibernate: from the request until the memory is safe, the VM gone and a wake possible",
      unit: "ms",
      product: samplesOf(sleeps.product.slice(1)),
      baseline: {
        what: "QEMU `stop`, device state saved, files flushed, killed, of a copy woken the same way",
        samples: samplesOf(sleeps.raw.slice(1)),
      },
      target: { kind: "ratio_max", value: 1.5 },
      note: "of a sprite that has slept before: its RAM lies in a file already. The product also stops the guest's processes and flushes its file system first, which the raw VM does not.",
    },
    {
      id: "wake",
      what: "wake from hibernation → first `echo` answered",
      unit: "ms",
      product: wake.a,
      baseline: { what: "QEMU resume of clones of the same files + `echo` on the agent's stream", samples: wake.b },
      target: { kind: "ratio_max", value: 1.3 },
      note: "memory in the host's page cache on both sides.",
    },
  ];
}

/** The first hibernation of a sprite: all its RAM is written. */
export async function measureFirstHibernation(bench: Bench): Promise<Figure[]> {
  const { a, b } = await interleave(
    Math.max(1, Math.floor(bench.rounds / 2)),
    async () => {
      const name = uniqueName("first");
      await createSprite(bench.daemon, name);
      await echoMs(bench.daemon, name);
      const ms = await timed(() => sleepSprite(bench.daemon, name));
      await deleteSprite(bench.daemon, name);
      return ms;
    },
    async () => {
      await using place = await bench.place();
      await using vm = await startRawVm(bench.template, place);
      await firstOutput(vm);
      return (await timed(() => stopAndSave(bench.template, place))) + (await timed(async () => await vm[Symbol.asyncDispose]()));
    },
  );
  return [
    {
      id: "hibernate-first",
      what: "the first hibernation of a sprite, all RAM written",
      unit: "ms",
      product: a,
      baseline: { what: "QEMU `stop`, RAM and device state saved to a file, flushed, killed", samples: b },
      target: { kind: "ratio_max", value: 1.5 },
    },
  ];
}

/** A command that finds its sprite paused, beside one that finds it running. */
export async function measurePaused(bench: Bench): Promise<Figure[]> {
  const { daemon } = bench;
  const [paused, running] = [uniqueName("paused"), uniqueName("running")];
  await askFor(daemon, 201, "/v1/sprites", { method: "POST", json: { name: paused, config: { idle_seconds: 1 } } });
  await createSprite(daemon, running);
  for (const name of [paused, running]) await echoMs(daemon, name);
  const { a, b } = await interleave(
    bench.rounds,
    async () => {
      await waitFor("the pause", { timeoutMs: PAUSE_TIMEOUT_MS, everyMs: 50 }, async () => {
        const { json } = await askFor(daemon, 200, `/v1/sprites/${paused}`, {});
        return json["status"] === "warm";
      });
      return await echoMs(daemon, paused);
    },
    () => echoMs(daemon, running),
  );
  for (const name of [paused, running]) await deleteSprite(daemon, name);
  return [
    {
      id: "paused",
      what: "wake from paused → first `echo` answered",
      unit: "ms",
      product: a,
      baseline: { what: "`echo` in a sprite that runs", samples: b },
      target: { kind: "ratio_max", value: 1.2 },
    },
  ];
}
