import { silentLogger } from "@sprited/base";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { Activities } from "./activity.ts";
import { idleDepth, type IdleFacts, IdleWatch } from "./idle.ts";
import { StagedHost, StagedStore, stagedDriver } from "./testing/staged-machines.ts";

const running = { kind: "running", incarnation: "i1", life: "i1" } as const;
const paused = { kind: "paused", incarnation: "i1", life: "i1", sinceMs: 1_000 } as const;

function facts(changes: Partial<IdleFacts>): IdleFacts {
  return { state: running, idleMs: 100, hibernateAfterMs: 500, isHeld: false, lastActiveMs: 1_000, nowMs: 1_000, ...changes };
}

describe("idle depth", () => {
  test.each([
    ["just used", {}, undefined],
    ["idle for its time", { nowMs: 1_100 }, "paused"],
    ["idle, but held", { nowMs: 9_000, isHeld: true }, undefined],
    ["idle, but never to sleep", { nowMs: 9_000, idleMs: 0 }, undefined],
    ["paused for a while", { state: paused, nowMs: 1_499 }, undefined],
    ["paused for long", { state: paused, nowMs: 1_500 }, "hibernated"],
    ["paused, to stay so", { state: paused, nowMs: 9_000, hibernateAfterMs: 0 }, undefined],
    ["cold", { state: { kind: "cold" }, nowMs: 9_000 }, undefined],
  ] as [string, Partial<IdleFacts>, string | undefined][])("[LIFE-26] %s", (_what, changes, depth) => {
    expect(idleDepth(facts(changes))).toBe(depth);
  });

  test("[LIFE-26] nothing held and nothing younger than its idle time ever sleeps", () => {
    const times = { idleMs: fc.nat(1_000), hibernateAfterMs: fc.nat(1_000), lastActiveMs: fc.nat(2_000), nowMs: fc.nat(4_000) };
    fc.assert(
      fc.property(fc.record({ ...times, isHeld: fc.boolean() }), (drawn) => {
        const depth = idleDepth({ ...drawn, state: running });
        if (depth === undefined) return;
        expect(drawn.isHeld).toBe(false);
        expect(drawn.nowMs - drawn.lastActiveMs).toBeGreaterThanOrEqual(drawn.idleMs);
      }),
    );
  });
});

describe("idle watch", () => {
  const hosts: StagedHost[] = [];
  afterEach(() => {
    for (const host of hosts.splice(0)) host.remove();
  });

  async function setup() {
    const host = new StagedHost();
    hosts.push(host);
    const clock = { nowMs: 1_000 };
    const activities = new Activities({ nowMs: () => clock.nowMs });
    const { driver } = stagedDriver(host, new StagedStore({ kind: "cold" }));
    await driver.wake();
    const watch = new IdleWatch({
      entries: () => [{ id: "s1", idleMs: undefined, driver }],
      activities,
      settings: { idleMs: 100, hibernateAfterMs: 500 },
      logger: silentLogger,
      nowMs: () => clock.nowMs,
    });
    const look = async (): Promise<string> => {
      watch.look();
      await driver.snapshotStep({ memory: false }, async () => {});
      return driver.state.kind;
    };
    return { clock, activities, driver, host, look };
  }

  test("[LIFE-26] pauses, then hibernates; a sprite that nobody used counts from when it was first seen", async () => {
    const { clock, look } = await setup();
    expect(await look()).toBe("running");
    clock.nowMs += 99;
    expect(await look()).toBe("running");
    clock.nowMs += 1;
    expect(await look()).toBe("paused");
  });

  test("[LIFE-15] a hold that comes while it falls asleep keeps it awake, and so does a touch", async () => {
    const { clock, activities, look } = await setup();
    await look();
    clock.nowMs += 100;
    const hold = activities.hold("s1", "session", "1");
    expect(await look()).toBe("running");
    hold.release();
    expect(await look()).toBe("running");
    clock.nowMs += 99;
    activities.touch("s1");
    clock.nowMs += 99;
    expect(await look()).toBe("running");
    clock.nowMs += 1;
    expect(await look()).toBe("paused");
  });

  test("[LIFE-17] a sleep that fails is tried again only after a while", async () => {
    const { clock, host, driver, look } = await setup();
    await look();
    clock.nowMs += 100;
    await look();
    clock.nowMs += 10_000;
    host.failSave = new Error("disk full");
    expect(await look()).toBe("paused");
    expect(await look()).toBe("paused");
    clock.nowMs += 60_000;
    expect(await look()).toBe("hibernated");
    expect(driver.life?.id).toBe("i1");
  });
});
