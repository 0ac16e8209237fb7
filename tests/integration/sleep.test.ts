import { writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";
import { newSleeper, sleepSuite } from "./sleep-suite.ts";

describe("sleep on simulated VMs", () => {
  let target: SimulatedTarget;
  beforeAll(async () => {
    target = await openSimulated({ idle: { idleMs: 0, hibernateAfterMs: 1000 } });
  });
  afterAll(() => target?.[Symbol.asyncDispose]());

  sleepSuite(() => target);

  test("[LIFE-21] what sleeps outlives the daemon, and its life goes on", async () => {
    const sleeper = await newSleeper(target);
    await sleeper.shell("true");
    const spriteId = String((await sleeper.get())["id"]);
    const { id } = await target.features.sprites.wakeLife(spriteId);
    await sleeper.sleep();
    await target.restart();
    expect((await sleeper.get())["status"]).toBe("warm");
    expect((await target.features.sprites.wakeLife(spriteId)).id).toBe(id);
  });

  test("[LIFE-19] a memory that is damaged is given up and named; the disk is kept", async () => {
    const sleeper = await newSleeper(target);
    await sleeper.shell("true");
    await sleeper.sleep();
    const { id } = (await sleeper.get()) as { id: string };
    await writeFile(`${target.layout.sprites}/${id}/memory/state`, "damaged");
    expect(await sleeper.shell("echo here")).toBe("here\n");
  });
});
