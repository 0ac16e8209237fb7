/** Sleep of real VMs: processes, clock, randomness, network and disk over pause, hibernation, and deaths of daemon and VMM. */
import fs from "node:fs/promises";
import path from "node:path";
import { run, sleep, waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { ask } from "../kit/http.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { newSleeper, type Sleeper, sleepSuite } from "./sleep-suite.ts";

vi.setConfig({ testTimeout: 240_000, hookTimeout: 300_000 });

/** Counts in memory alone, ten times a second; asks the disk for nothing but the last value. */
const COUNTER = "setsid sh -c 'i=0; while :; do i=$((i+1)); echo $i >/dev/shm/count; sleep 0.1; done' >/dev/null 2>&1 </dev/null &";
/** Most a clock may be off after a wake, ms. */
const CLOCK_ERROR_MS = 500;

async function startCounter(sleeper: Sleeper): Promise<string> {
  return (await sleeper.shell(`${COUNTER} sleep 0.5; cat /proc/sys/kernel/random/boot_id`)).trim();
}

/** The counter runs, was never restarted, and the kernel is the one of then. */
async function expectCounting(sleeper: Sleeper, bootId: string, atLeast: number): Promise<number> {
  const [boot, first, second] = (
    await sleeper.shell("cat /proc/sys/kernel/random/boot_id /dev/shm/count; sleep 1; cat /dev/shm/count")
  ).split("\n");
  expect(boot).toBe(bootId);
  expect(Number(first)).toBeGreaterThanOrEqual(atLeast);
  expect(Number(second)).toBeGreaterThan(Number(first));
  return Number(second);
}

describe.skipIf(vmSkipReason() !== undefined)("sleep on real VMs", () => {
  let daemon: DaemonProcess;
  beforeAll(async () => {
    daemon = await DaemonProcess.open({ environment: { SPRITED_SPRITE_HIBERNATE_AFTER_SECONDS: "2" } });
  });
  afterAll(async () => {
    await daemon?.closeClean().finally(() => daemon[Symbol.asyncDispose]());
  });

  sleepSuite(() => daemon);

  const memoryOf = async (sleeper: Sleeper): Promise<string> =>
    path.join(daemon.home.layout.sprites, String((await sleeper.get())["id"]), "memory");

  test("[LIFE-14] [LIFE-16] a hibernated sprite has no process and no RAM, and goes on where it was, time after time", async () => {
    const sleeper = await newSleeper(daemon);
    const boot = await startCounter(sleeper);
    let count = 0;
    for (let round = 0; round < 3; round += 1) {
      const before = await daemon.vmPids();
      await sleeper.sleep();
      expect((await daemon.vmPids()).length).toBe(before.length - 1);
      await sleep(1_500);
      const [held, later] = [count, await expectCounting(sleeper, boot, count)];
      // One and a half seconds of sleep are fifteen steps that were not made.
      expect(later - held).toBeLessThan(round === 0 ? 60 : 25);
      count = later;
    }
  });

  test("[LIFE-21] a sleeping sprite outlives daemons, orderly and killed", async () => {
    const sleeper = await newSleeper(daemon);
    const boot = await startCounter(sleeper);
    await sleeper.sleep();
    await daemon.stop();
    await daemon.start();
    expect((await sleeper.get())["status"]).toBe("warm");
    const count = await expectCounting(sleeper, boot, 1);
    await sleeper.sleep();
    await daemon.kill();
    await daemon.start();
    await expectCounting(sleeper, boot, count);
  });

  test("[LIFE-10] [LIFE-21] a daemon killed at any moment of sleep and wake loses nothing that runs", async () => {
    const sleeper = await newSleeper(daemon);
    const boot = await startCounter(sleeper);
    let count = 0;
    for (const delayMs of [5, 40, 120, 400, 900]) {
      for (const what of ["sleep", "wake"]) {
        const asked = ask(daemon, `/v1/sprites/${sleeper.name}/${what}`, { method: "POST", json: {} }).catch(() => {});
        await sleep(delayMs);
        await daemon.kill();
        await asked;
        await daemon.start();
        expect(["warm", "running"], `${what} after ${delayMs} ms`).toContain((await sleeper.get())["status"]);
        if (what === "wake") count = await expectCounting(sleeper, boot, count);
      }
    }
  });

  test("[LIFE-18] [LINK-7] after a wake the clock is right, randomness is new and the network is back", async () => {
    const sleeper = await newSleeper(daemon);
    const facts = "date +%s%3N; head -c 16 /dev/urandom | od -An -tx1; getent hosts deb.debian.org >/dev/null && echo net || echo none";
    // A host without the world outside has none after the wake either.
    const [, , net] = (await sleeper.shell(facts)).split("\n");
    // A process of the user's that asks for the time again and again, also around the sleeps.
    await sleeper.shell("setsid sh -c 'while :; do date +%s%3N; sleep 0.05; done' >/dev/shm/times 2>/dev/null </dev/null &");
    const seen = new Set<string>();
    for (const restMs of [500, 20_000]) {
      await sleeper.sleep();
      await sleep(restMs);
      const askedMs = Date.now();
      const [date, random, netThen] = (await sleeper.shell(facts)).split("\n");
      const answeredMs = Date.now();
      expect(Number(date)).toBeGreaterThan(askedMs - CLOCK_ERROR_MS);
      expect(Number(date)).toBeLessThan(answeredMs + CLOCK_ERROR_MS);
      expect(seen).not.toContain(random);
      seen.add(String(random));
      expect(netThen).toBe(net);
    }
    // To it the long sleep was one step forward.
    const times = (await sleeper.shell("cat /dev/shm/times")).trim().split("\n").map(Number);
    const steps = times.slice(1).map((time, index) => time - (times[index] ?? 0));
    expect(steps.filter((step) => step > 15_000)).toHaveLength(1);
    expect(Math.min(...steps)).toBeGreaterThan(-CLOCK_ERROR_MS);
  });

  test("[LIFE-18] two wakes of one memory draw different numbers", async () => {
    const sleeper = await newSleeper(daemon);
    await sleeper.shell("true");
    await sleeper.sleep();
    const memory = await memoryOf(sleeper);
    const disk = path.join(path.dirname(memory), "disk.raw");
    const copy = `${path.dirname(memory)}-copy`;
    await fs.mkdir(copy);
    await run("cp", ["-a", "--reflink=auto", memory, disk, copy]);
    const draw = (): Promise<string> => sleeper.shell("head -c 16 /dev/urandom | od -An -tx1");
    const first = await draw();
    await sleeper.sleep();
    await daemon.stop();
    await run("cp", ["-a", "--reflink=auto", path.join(copy, "memory", "ram"), path.join(copy, "memory", "state"), memory]);
    await run("cp", ["-a", "--reflink=auto", path.join(copy, "disk.raw"), disk]);
    await fs.rm(copy, { recursive: true });
    await daemon.start();
    expect(await draw()).not.toBe(first);
  });

  test("[LIFE-6] [LIFE-19] what kills a paused VM or damages a memory costs the processes, never the disk, and is said", async () => {
    const sleeper = await newSleeper(daemon, { idle_seconds: 1 });
    await startCounter(sleeper);
    await sleeper.shell("echo kept > /home/sprite/file");
    await waitFor("the pause", { timeoutMs: 30_000, everyMs: 20 }, async () => (await sleeper.get())["status"] === "warm");
    await daemon.killVms();
    await waitFor("the loss to be seen", { timeoutMs: 10_000, everyMs: 50 }, async () => (await sleeper.get())["status"] !== "running");
    expect(await sleeper.shell("cat /home/sprite/file; cat /dev/shm/count 2>/dev/null || echo none")).toBe("kept\nnone\n");
    await sleeper.sleep();
    const state = path.join(await memoryOf(sleeper), "state");
    const bytes = await fs.readFile(state);
    bytes[bytes.length - 100]! ^= 0xff;
    await fs.writeFile(state, bytes);
    expect(await sleeper.shell("cat /home/sprite/file")).toBe("kept\n");
    expect(await daemon.log()).toContain("sprite.memory_lost");
  });
});
