/**
 * Exec under force, against any target: many quick commands, a stream that is cut at random byte
 * positions, streams over a daemon that is killed again and again. What comes is compared byte by
 * byte; a fault is a command of which anything was lost, reordered, doubled or made up.
 */
import { createHash } from "node:crypto";
import { spawn } from "node:child_process";
import { waitFor } from "@sprited/base";
import { type LastingConnection, openLastingExec } from "@sprited/protocol/client";
import { CuttingProxy, seededNumbers } from "../kit/cutting-proxy.ts";
import { type DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw } from "../kit/exec-socket.ts";
import type { Target } from "../kit/target.ts";

/** How long a client tries again, ms: longer than anything here takes. */
const RECONNECT_MS = 600_000;
/** A sprite under emulation may take this long for its last bytes, ms. */
const END_TIMEOUT_MS = 600_000;
/** Lines of each stream of a quick command. */
const LINES = 8;
/** Line numbers of a stream have this many digits, so each line is one byte longer. */
const FIRST_LINE = 100_000_000;
const LINE_BYTES = 10;

/** Runs `count` quick commands, `atOnce` at a time; counts those that were not exactly right, and tells of the first. */
export async function runQuickExecs(
  target: Target,
  sprite: string,
  work: { count: number; atOnce: number },
): Promise<{ faults: number; first: string | undefined }> {
  let next = 0;
  let faults = 0;
  let first: string | undefined;
  const one = async (number: number): Promise<string | undefined> => {
    const script = `i=0; while [ $i -lt ${LINES} ]; do echo out-${number}-$i; echo err-${number}-$i >&2; i=$((i+1)); done; exit ${number % 256}`;
    const lines = (name: string): string => Array.from({ length: LINES }, (_, line) => `${name}-${number}-${line}\n`).join("");
    const result = await execRaw(target, sprite, { cmd: ["sh", "-c", script] });
    const isRight = result.code === number % 256 && result.stdout.toString() === lines("out") && result.stderr.toString() === lines("err");
    return isRight ? undefined : `exit ${result.code}, ${JSON.stringify([result.stdout.toString(), result.stderr.toString()])}`;
  };
  const worker = async (): Promise<void> => {
    while (next < work.count) {
      const number = (next += 1);
      const fault = await one(number).catch(String);
      if (fault === undefined) continue;
      faults += 1;
      first ??= `command ${number}: ${fault}`;
    }
  };
  await Promise.all(Array.from({ length: work.atOnce }, worker));
  return { faults, first };
}

/** Reads one stream of `megabytes` while its connection is cut `cuts` times, at random byte positions. */
export async function readThroughCuts(
  target: Target,
  sprite: string,
  work: { megabytes: number; cuts: number },
): Promise<{ faults: number; cuts: number }> {
  const bytes = work.megabytes * 1_000_000;
  const mean = bytes / work.cuts;
  await using proxy = await CuttingProxy.open(target.baseUrl, { bytes: seededNumbers(work.cuts, 3_000, Math.ceil(2 * mean)) });
  const argv = ["seq", String(FIRST_LINE), String(FIRST_LINE + bytes / LINE_BYTES - 1)];
  const hash = createHash("sha256");
  const connection = await openLastingExec(
    { baseUrl: proxy.url, token: target.token, sprite },
    { kind: "command", argv, stdin: false },
    { output: (_stream, data) => void hash.update(data) },
    { reconnectForMs: RECONNECT_MS },
  );
  const code = await connection.ended;
  return { faults: code === 0 && hash.digest("hex") === (await hashOf(argv)) ? 0 : 1, cuts: proxy.cuts };
}

/** SHA-256 of what a command of this host prints. */
async function hashOf(argv: readonly string[]): Promise<string> {
  const hash = createHash("sha256");
  const child = spawn(argv[0] ?? "", argv.slice(1), { stdio: ["ignore", "pipe", "inherit"] });
  for await (const data of child.stdout) hash.update(data as Buffer);
  return hash.digest("hex");
}

/** Prints numbered lines at a steady pace, so that it lasts as long as the kills do. */
const STEADY = `$| = 1; for my $i (1 .. $ARGV[0]) { print "$ARGV[1] $i ", "x" x 500, "\\n"; select(undef, undef, undef, 0.1) }`;

export interface KillsEnd {
  /** Streams that were not exactly right, and zombies. */
  faults: number;
  kills: number;
  reconnects: number;
}

/** Reads `streams` streams while the daemon is killed every `everyMs`; counts zombies in the sprite afterwards. */
export async function readThroughKills(
  daemon: DaemonProcess,
  sprite: string,
  work: { streams: number; everyMs: number; durationMs: number },
): Promise<KillsEnd> {
  const lines = Math.ceil(work.durationMs / 100);
  let reconnects = 0;
  const open = async (number: number): Promise<{ connection: LastingConnection; hash: () => string }> => {
    const hash = createHash("sha256");
    const connection = await openLastingExec(
      { baseUrl: daemon.baseUrl, token: daemon.token, sprite },
      { kind: "command", argv: ["perl", "-e", STEADY, String(lines), `s${number}`], stdin: false, maxRunAfterDisconnect: "10m" },
      { output: (_stream, data) => void hash.update(data), back: () => void (reconnects += 1) },
      { reconnectForMs: RECONNECT_MS },
    );
    return { connection, hash: () => hash.digest("hex") };
  };
  const streams: Awaited<ReturnType<typeof open>>[] = [];
  for (let number = 0; number < work.streams; number += 1) streams.push(await open(number));
  let kills = 0;
  for (const untilMs = performance.now() + work.durationMs; performance.now() < untilMs; kills += 1) {
    await new Promise((resolve) => setTimeout(resolve, work.everyMs));
    await daemon.kill();
    await daemon.start();
  }
  let faults = 0;
  for (const [number, { connection, hash }] of streams.entries()) {
    const code = await Promise.race([connection.ended.catch(() => -1), new Promise((resolve) => setTimeout(resolve, END_TIMEOUT_MS, -2))]);
    const expected = createHash("sha256");
    for (let line = 1; line <= lines; line += 1) expected.update(`s${number} ${line} ${"x".repeat(500)}\n`);
    if (code !== 0 || hash() !== expected.digest("hex")) faults += 1;
  }
  return { faults: faults + (await zombiesIn(daemon, sprite)), kills, reconnects };
}

/** Processes in the sprite that ended and that nobody has taken note of. */
async function zombiesIn(target: Target, sprite: string): Promise<number> {
  let count = -1;
  await waitFor("no zombies", { timeoutMs: 10_000, everyMs: 1_000 }, async () => {
    const { stdout } = await execRaw(target, sprite, { cmd: ["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || true"] });
    count = Number(stdout.toString());
    return count === 0;
  }).catch(() => {});
  return count;
}
