/** Measures of many sprites: claims, all at once, hundreds asleep. */
import fs from "node:fs/promises";
import os from "node:os";
import { sleep, waitFor } from "@sprited/base";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { ask } from "../kit/http.ts";
import { uniqueName } from "../kit/target.ts";
import { askFor, type Bench, createAndEcho, createAndEchoPatiently, deleteSprite, echoMs, sleepSprite } from "./bench.ts";
import { download, startJsonServer } from "./plain-list.ts";
import { rssMb } from "./proc.ts";
import { firstOutput, type RawVm, startRawVm } from "./raw-vm.ts";
import { type Figure, interleave, samplesOf, timed } from "./rounds.ts";

/** Sprites asked for at the same moment; under emulation their guests share few cores. */
const AT_ONCE = 100;
const AT_ONCE_EMULATED = 24;
/** Memory one running sprite takes on the host, MB: what it touches, and QEMU with its cache of translated code. */
const SPRITE_MB = 200;
const SLEEPERS = 500;
/** Creates under way at once while sleepers are made. */
const PARALLEL = 8;
const SETTLE_MS = 5_000;
/** Longest wait for spares, ms: each is woken and put to sleep once. */
const FILL_TIMEOUT_MS = 1_200_000;
const TEMPLATE_TIMEOUT_MS = 600_000;

/** A template with the memory of a sprite that has run a command. */
async function makeTemplate(daemon: DaemonProcess): Promise<string> {
  const [source, template] = [uniqueName("source"), uniqueName("template")];
  await createAndEcho(daemon, source);
  const signal = AbortSignal.timeout(TEMPLATE_TIMEOUT_MS);
  await askFor(daemon, 201, "/v1/templates", { method: "POST", json: { name: template, sprite: source, memory: true }, signal });
  await deleteSprite(daemon, source);
  return template;
}

/** Claims of spares that sleep, beside the wake of a sprite that sleeps. */
export async function measureClaim(bench: Bench): Promise<Figure[]> {
  const { daemon } = bench;
  const template = await makeTemplate(daemon);
  const pool = uniqueName("pool");
  const count = bench.rounds + 1;
  const json = { name: pool, template, min: count, max: count, spare: "hibernated", refill_per_minute: 600 };
  await askFor(daemon, 201, "/v1/pools", { method: "POST", json });
  bench.say(`filling a pool with ${count} spares …`);
  await waitFor("the spares", { timeoutMs: FILL_TIMEOUT_MS, everyMs: 500 }, async () => {
    const { json: found } = await askFor(daemon, 200, `/v1/pools/${pool}`, {});
    return found["ready"] === count;
  });
  // From here on as few as can be: a spare that is filled beside a wake takes it a core.
  await askFor(daemon, 200, `/v1/pools/${pool}`, { method: "PUT", json: { refill_per_minute: 1 } });
  const woken = uniqueName("woken");
  await askFor(daemon, 201, "/v1/sprites", { method: "POST", json: { name: woken, template } });
  const claims: number[] = [];
  const { a, b } = await interleave(
    bench.rounds,
    async () => {
      const name = uniqueName("claimed");
      const claimMs = await timed(() => askFor(daemon, 201, `/v1/pools/${pool}/claim`, { method: "POST", json: { name } }));
      claims.push(claimMs);
      const echo = await echoMs(daemon, name);
      await deleteSprite(daemon, name);
      return claimMs + echo;
    },
    async () => {
      const ms = await echoMs(daemon, woken);
      await sleepSprite(daemon, woken);
      return ms;
    },
  );
  await deleteSprite(daemon, woken);
  await askFor(daemon, 204, `/v1/pools/${pool}`, { method: "DELETE" });
  await askFor(daemon, 204, `/v1/templates/${template}`, { method: "DELETE" });
  return [
    {
      id: "claim",
      what: "claim of a hibernated spare → first `echo` answered",
      unit: "ms",
      product: a,
      baseline: { what: "wake of a sprite from hibernation → first `echo` answered", samples: b },
      target: { kind: "ratio_max", value: 1.3 },
    },
    {
      id: "claim-call",
      what: "the claim itself",
      unit: "ms",
      product: samplesOf(claims.slice(1)),
      baseline: undefined,
      target: { kind: "value_max", value: 20 },
    },
  ];
}

/** As many sprites at once as are promised, or as memory and emulation admit. */
export async function measureAtOnce(bench: Bench): Promise<Figure[]> {
  const { daemon } = bench;
  const isEmulated = bench.template.args.some((arg) => arg.startsWith("tcg"));
  const count = Math.max(
    1,
    Math.min(isEmulated && bench.scale < 1 ? AT_ONCE_EMULATED : AT_ONCE, Math.floor(os.freemem() / 1e6 / SPRITE_MB)),
  );
  const names = Array.from({ length: count }, () => uniqueName("once"));
  const times = { product: [] as number[], raw: [] as number[] };
  let refusals = 0;
  const product = await timed(() =>
    Promise.all(
      names.map(async (name) => {
        times.product.push(
          await timed(async () => {
            const again = await createAndEchoPatiently(daemon, name);
            refusals += again;
          }),
        );
      }),
    ),
  );
  await Promise.all(names.map((name) => deleteSprite(daemon, name)));
  const places = await Promise.all(names.map(() => bench.place()));
  const vms: RawVm[] = [];
  const raw = await timed(() =>
    Promise.all(
      places.map(async (place) => {
        times.raw.push(
          await timed(async () => {
            const vm = await startRawVm(bench.template, place);
            vms.push(vm);
            await firstOutput(vm);
          }),
        );
      }),
    ),
  );
  await Promise.all(vms.map((vm) => vm[Symbol.asyncDispose]()));
  await Promise.all(places.map((place) => place[Symbol.asyncDispose]()));
  const scaled = count === AT_ONCE ? "" : ` Scaled down from ${AT_ONCE}: ${isEmulated ? "guests are emulated" : "memory"}.`;
  return [
    {
      id: "at-once",
      what: `${count} sprites asked for at once, ${count} answered: until the last`,
      unit: "ms",
      product: samplesOf([product]),
      baseline: { what: `${count} raw QEMUs doing the same`, samples: samplesOf([raw]) },
      target: { kind: "ratio_max", value: 1.3 },
      note: `${refusals === 0 ? "every request was answered at its first asking." : `${refusals} requests waited longer than the server allows and asked again.`}${scaled}`,
    },
    {
      id: "at-once-p99",
      what: "the same: 99th of 100 in the order of their answers",
      unit: "ms",
      product: samplesOf([percentile(times.product, 0.99)]),
      baseline: { what: "raw", samples: samplesOf([percentile(times.raw, 0.99)]) },
      target: undefined,
    },
  ];
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? NaN;
}

/** Hundreds of sprites asleep with their memory: what they cost, and whether anybody notices. */
export async function measureSleepers(bench: Bench): Promise<Figure[]> {
  await using daemon = await DaemonProcess.open({ environment: { SPRITED_LOG_LEVEL: "info" } });
  const template = await makeTemplate(daemon);
  const woken = uniqueName("woken");
  const begin = (name: string): Promise<unknown> => askFor(daemon, 201, "/v1/sprites", { method: "POST", json: { name, template } });
  await begin(woken);
  const aloneMs = await wakeTimes(bench, daemon, woken);
  const before = await costOf(daemon);
  bench.say(`making ${SLEEPERS} sprites that sleep …`);
  const waiting = Array.from({ length: SLEEPERS }, () => uniqueName("asleep"));
  const makeNext = async (): Promise<void> => {
    for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) await begin(name);
  };
  await Promise.all(Array.from({ length: PARALLEL }, makeNext));
  const after = await costOf(daemon);
  const running = (await daemon.vmPids()).length;
  if (running > 0) throw new Error(`${running} VMs run although every sprite sleeps`);
  const list = await listFigure(bench, daemon);
  const amongMs = await wakeTimes(bench, daemon, woken);
  return [
    {
      id: "sleepers-memory",
      what: `memory of the host for each of ${SLEEPERS} hibernated sprites`,
      unit: "MB",
      product: samplesOf([Math.max(0, after.rssMb - before.rssMb) / SLEEPERS]),
      baseline: undefined,
      target: { kind: "value_max", value: 1 },
      note: `no process but the daemon, ${before.rssMb.toFixed(0)} MB resident before and ${after.rssMb.toFixed(0)} MB with all of them.`,
    },
    list,
    {
      id: "sleepers-wake",
      what: `wake → first \`echo\` among ${SLEEPERS} that sleep`,
      unit: "ms",
      product: samplesOf(amongMs),
      baseline: { what: "the same sprite before there were others", samples: samplesOf(aloneMs) },
      target: { kind: "ratio_max", value: 1.25 },
    },
    {
      id: "sleepers-disk",
      what: "disk for each, made from one template with memory",
      unit: "MB",
      product: samplesOf([(after.usedMb - before.usedMb) / SLEEPERS]),
      baseline: undefined,
      target: undefined,
      note: "what the file system has less of, over their number: clones share what they have not written themselves. One that has run keeps what it changed, and its memory.",
    },
  ];
}

/** Wakes of one sprite, which sleeps again after each; the first is not counted. */
async function wakeTimes(bench: Bench, daemon: DaemonProcess, name: string): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round <= bench.rounds; round += 1) {
    times.push(await echoMs(daemon, name));
    await sleepSprite(daemon, name);
  }
  return times.slice(1);
}

async function costOf(daemon: DaemonProcess): Promise<{ rssMb: number; usedMb: number }> {
  await sleep(SETTLE_MS);
  return { rssMb: await rssMb(daemon.pid), usedMb: await usedMb(daemon.home.layout.sprites) };
}

async function listFigure(bench: Bench, daemon: DaemonProcess): Promise<Figure> {
  const page = "/v1/sprites?max_results=1000";
  const { body } = await ask(daemon, page);
  await using plain = await startJsonServer(bench.rawDirectory, body);
  const { a, b } = await interleave(
    bench.rounds * 4,
    () => timed(() => download(`${daemon.baseUrl}${page}`, daemon.token)),
    () => timed(() => download(plain.url, "")),
  );
  return {
    id: "sleepers-list",
    what: `page of ${SLEEPERS + 1} sprites that sleep, ${Math.round(body.length / 1000)} kB`,
    unit: "ms",
    product: a,
    baseline: { what: "the same JSON serialised and sent by a bare node:http server", samples: b },
    target: { kind: "ratio_max", value: 3 },
  };
}

/** What a file system gives away, MB. */
async function usedMb(directory: string): Promise<number> {
  const { blocks, bfree, bsize } = await fs.statfs(directory);
  return ((blocks - bfree) * bsize) / 1e6;
}
