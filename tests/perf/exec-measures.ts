/**
 * What exec promises, as figures. Counts run in full on simulated machines, which run the same
 * daemon and agent without emulation; on real VMs they are multiplied by `bench.scale`.
 */
import net from "node:net";
import { sleep } from "@sprited/base";
import { execRaw, ExecSocket } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { openSimulated } from "../kit/simulated.ts";
import { createSprite } from "../kit/tenants.ts";
import { type Target, uniqueName } from "../kit/target.ts";
import { type Bench, deleteSprite } from "./bench.ts";
import { readThroughCuts, readThroughKills, runQuickExecs } from "./exec-torture.ts";
import { rssMb } from "./proc.ts";
import { runOnStream, startRawVm } from "./raw-vm.ts";
import { type Figure, interleave, samplesOf, timed } from "./rounds.ts";

const QUICK_EXECS = 10_000;
const QUICK_AT_ONCE = 8;
const STREAM_MB = 200;
const CUTS = 1_000;
const STREAMS = 20;
const KILL_EVERY_MS = 2_000;
const KILLS_FOR_MS = 120_000;
const CONCURRENT = 100;
/** A slow reader and what it is offered. */
const SLOW_BYTES_PER_SECOND = 1_000;
const SLOW_OFFER = ["seq", "100000000", "199999999"];
const SLOW_FOR_MS = 60_000;
/** The slow reader's daemon is looked at this often, ms. */
const LOOK_EVERY_MS = 500;

export const EXEC_MEASURES: Record<string, (bench: Bench) => Promise<Figure[]>> = {
  "quick-execs": measureQuickExecs,
  cuts: measureCuts,
  kills: measureKills,
  concurrent: measureConcurrent,
  "slow-reader": measureSlowReader,
};

/** `value` times the scale, at least `least`. */
function scaled(bench: Bench, value: number, least: number): number {
  return Math.min(value, Math.max(least, Math.round(value * bench.scale)));
}

function faultsFigure(figure: { id: string; what: string; faults: number; note: string }): Figure {
  const { faults, ...rest } = figure;
  return { ...rest, unit: "faults", product: samplesOf([faults]), baseline: undefined, target: { kind: "value_max", value: 0 } };
}

async function measureQuickExecs(bench: Bench): Promise<Figure[]> {
  const measure = async (where: string, target: Target, sprite: string, count: number): Promise<Figure> => {
    const startedMs = performance.now();
    const { faults, first } = await runQuickExecs(target, sprite, { count, atOnce: QUICK_AT_ONCE });
    const each = ((performance.now() - startedMs) / count).toFixed(1);
    return faultsFigure({
      id: `quick-execs-${where}`,
      what: `${count.toLocaleString("en")} quick execs, ${where === "vm" ? "in a VM" : "simulated machine"}`,
      faults,
      note: `both streams and the exit code of each compared; ${QUICK_AT_ONCE} at a time, ${each} ms each${first === undefined ? "" : `; ${first}`}.`,
    });
  };
  const simulated = await onSimulated((target, sprite) => measure("simulated", target, sprite, QUICK_EXECS));
  const count = scaled(bench, QUICK_EXECS, 100);
  return await onVm(bench, async (sprite) => [simulated, await measure("vm", bench.daemon, sprite, count)]);
}

async function measureCuts(bench: Bench): Promise<Figure[]> {
  const figure = (where: string, megabytes: number, end: { faults: number; cuts: number }): Figure =>
    faultsFigure({
      id: `cuts-${where}`,
      what: `stream of ${megabytes} MB, connection cut at random bytes, ${where === "vm" ? "from a VM" : "simulated machine"}`,
      faults: end.faults,
      note: `${end.cuts} cuts; the SHA-256 of what arrived is that of what was printed.`,
    });
  const simulated = await onSimulated(async (target, sprite) =>
    figure("simulated", STREAM_MB, await readThroughCuts(target, sprite, { megabytes: STREAM_MB, cuts: CUTS })),
  );
  const [megabytes, cuts] = [scaled(bench, STREAM_MB, 10), scaled(bench, CUTS, 50)];
  return await onVm(bench, async (sprite) => [
    simulated,
    figure("vm", megabytes, await readThroughCuts(bench.daemon, sprite, { megabytes, cuts })),
  ]);
}

async function measureKills(bench: Bench): Promise<Figure[]> {
  const durationMs = scaled(bench, KILLS_FOR_MS, 10_000);
  return await onVm(bench, async (sprite) => {
    const end = await readThroughKills(bench.daemon, sprite, { streams: STREAMS, everyMs: KILL_EVERY_MS, durationMs });
    return [
      faultsFigure({
        id: "kills",
        what: `${STREAMS} streams over ${durationMs / 1000} s of daemon kill -9, ${KILL_EVERY_MS / 1000} s after each start`,
        faults: end.faults,
        note: `${end.kills} kills, ${end.reconnects} reconnects; a fault is a stream with another SHA-256, another exit code, or a zombie left in the sprite.`,
      }),
    ];
  });
}

async function measureConcurrent(bench: Bench): Promise<Figure[]> {
  const place = await bench.place();
  const vm = await startRawVm(bench.template, place);
  try {
    return await onVm(bench, async (sprite) => {
      let wrong = 0;
      const all = async (one: (number: number) => Promise<boolean>): Promise<number[]> =>
        await Promise.all(
          Array.from({ length: CONCURRENT }, (_, number) =>
            timed(async () => {
              if (!(await one(number).catch(() => false))) wrong += 1;
            }),
          ),
        );
      const spread: number[] = [];
      const { a, b } = await interleave(
        Math.max(1, Math.floor(bench.rounds / 3)),
        async () => {
          const times = await all(async (number) => {
            const { code, stdout } = await execRaw(bench.daemon, sprite, { cmd: ["echo", String(number)] });
            return code === 0 && stdout.toString() === `${number}\n`;
          });
          spread.push(percentile(times, 0.5));
          return percentile(times, 0.99);
        },
        async () => {
          const times = await all(async (number) => {
            let out = "";
            const code = await runOnStream(vm.link, ["echo", String(number)], (data) => void (out += Buffer.from(data).toString()));
            return code === 0 && out === `${number}\n`;
          });
          return percentile(times, 0.5);
        },
      );
      return [
        {
          id: "concurrent",
          what: `p99 of ${CONCURRENT} execs at once`,
          unit: "ms",
          product: a,
          baseline: { what: "p50 of as many at once on the agent's stream", samples: b },
          target: { kind: "ratio_max", value: 2 },
          note: `${wrong} wrong answers; p50 through the API ${samplesOf(spread).median.toFixed(0)} ms.`,
        },
        faultsFigure({
          id: "concurrent-faults",
          what: `wrong answers of ${CONCURRENT} execs at once`,
          faults: wrong,
          note: "of both ways.",
        }),
      ];
    });
  } finally {
    await vm[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
  }
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

async function measureSlowReader(bench: Bench): Promise<Figure[]> {
  const durationMs = scaled(bench, SLOW_FOR_MS, 20_000);
  return await onVm(bench, async (sprite) => {
    const echoMs = async (): Promise<number> =>
      await timed(async () => {
        const { stdout } = await execRaw(bench.daemon, sprite, { cmd: ["echo", "hello"] });
        if (stdout.toString() !== "hello\n") throw new Error("another session was disturbed");
      });
    // A daemon that has passed on nothing yet: what its first large output costs counts as well.
    await bench.daemon.stop();
    await bench.daemon.start();
    const alone = [await echoMs(), await echoMs(), await echoMs()];
    const before = await rssMb(bench.daemon.pid);
    await using slow = await openSlowPipe(bench.daemon.baseUrl);
    const exec = await ExecSocket.open(
      { kind: "vm", token: bench.daemon.token, organization: bench.daemon.organization, baseUrl: slow.url },
      sprite,
      {
        cmd: SLOW_OFFER,
        stdin: "false",
      },
    );
    slow.isSlow = true;
    let most = before;
    const beside: number[] = [];
    for (const untilMs = performance.now() + durationMs; performance.now() < untilMs; await sleep(LOOK_EVERY_MS)) {
      most = Math.max(most, await rssMb(bench.daemon.pid));
      if (beside.length < 10) beside.push(await echoMs());
    }
    if (exec.closeCode !== undefined || exec.exitPayload !== undefined) throw new Error("the slow reader's command ended");
    const written = await writtenMb(bench, sprite);
    exec.drop();
    const echo = samplesOf(beside);
    return [
      {
        id: "slow-reader",
        what: `daemon memory, more at most while 1 GB of output is read at ${SLOW_BYTES_PER_SECOND / 1000} KB/s`,
        unit: "MB",
        product: samplesOf([most - before]),
        baseline: undefined,
        target: { kind: "value_max", value: 16 },
        note: `of a daemon that was just started; looked at for ${durationMs / 1000} s, in which the command wrote ${written.toFixed(0)} MB before it was held back or the time was up; an \`echo\` beside it took ${echo.median.toFixed(0)} ms (${samplesOf(alone).median.toFixed(0)} ms before).`,
      },
    ];
  });
}

/** Output of the one session that runs, MB. */
async function writtenMb(bench: Bench, sprite: string): Promise<number> {
  const answer = await ask(bench.daemon, `/v1/sprites/${sprite}/exec`);
  const [session] = answer.json()["sessions"] as { stdout_bytes: number }[];
  return (session?.stdout_bytes ?? 0) / 1_000_000;
}

/** A TCP proxy that passes on what the server sends at the slow reader's pace once it `isSlow`. */
async function openSlowPipe(baseUrl: string): Promise<{ url: string; isSlow: boolean } & AsyncDisposable> {
  const { hostname, port } = new URL(baseUrl);
  const sockets = new Set<net.Socket>();
  const perTick = SLOW_BYTES_PER_SECOND / 10;
  const server = net.createServer((client) => {
    const upstream = net.connect(Number(port), hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => {}); // the other end follows
      socket.on("close", () => {
        clearInterval(timer);
        client.destroy();
        upstream.destroy();
      });
    }
    client.pipe(upstream);
    // Not flowing: what is not read stays in the kernel, and so with the server.
    const timer = setInterval(() => {
      const size = pipe.isSlow ? Math.min(perTick, upstream.readableLength) : upstream.readableLength;
      const data = size > 0 ? (upstream.read(size) as Buffer | null) : null;
      if (data) client.write(data);
    }, 100);
    upstream.on("readable", () => {
      if (pipe.isSlow) return;
      const data = upstream.read() as Buffer | null;
      if (data) client.write(data);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const pipe = {
    url: `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`,
    isSlow: false,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return pipe;
}

async function onVm<T>(bench: Bench, work: (sprite: string) => Promise<T>): Promise<T> {
  const sprite = uniqueName("torture");
  await createSprite(bench.daemon, sprite);
  try {
    await execRaw(bench.daemon, sprite, { cmd: ["true"] });
    return await work(sprite);
  } finally {
    await deleteSprite(bench.daemon, sprite);
  }
}

async function onSimulated<T>(work: (target: Awaited<ReturnType<typeof openSimulated>>, sprite: string) => Promise<T>): Promise<T> {
  await using target = await openSimulated();
  const sprite = uniqueName("torture");
  await createSprite(target, sprite);
  return await work(target, sprite);
}
