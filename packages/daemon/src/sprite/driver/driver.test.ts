import { writeFileSync } from "node:fs";
import { AssertionError } from "@sprited/base";
import { VmmError } from "@sprited/vmm";
import { afterEach, describe, expect, test } from "vitest";
import { memoryPaths } from "../../machine/index.ts";
import { incarnationOf, type SpriteState } from "../lifecycle.ts";
import { StagedHost, StagedStore, stagedDriver } from "../testing/staged-machines.ts";

const hosts: StagedHost[] = [];

function newHost(): StagedHost {
  const host = new StagedHost();
  hosts.push(host);
  return host;
}

function setup(state: SpriteState, host: StagedHost = newHost()) {
  const store = new StagedStore(state);
  return { ...stagedDriver(host, store), host, store, written: store.written };
}

afterEach(() => {
  for (const host of hosts.splice(0)) host.remove();
});

describe("sprite driver", () => {
  test("[LIFE-2] a hundred requests at once share one wake", async () => {
    const { driver, host } = setup({ kind: "cold" });
    const woken = await Promise.all(Array.from({ length: 100 }, () => driver.wake()));
    expect(host.starts).toBe(1);
    expect(new Set(woken.map((machine) => machine.incarnation)).size).toBe(1);
    expect(driver.state.kind).toBe("running");
  });

  test("[LIFE-2] a caller that gives up leaves the wake to the others", async () => {
    const { driver, host } = setup({ kind: "cold" });
    let open = (): void => {};
    host.gate = new Promise((resolve) => {
      open = resolve;
    });
    const impatient = new AbortController();
    const first = driver.wake({ signal: impatient.signal });
    const second = driver.wake();
    impatient.abort(new Error("left"));
    await expect(first).rejects.toThrow("left");
    open();
    expect((await second).incarnation).toBe("i1");
  });

  test("[LIFE-3] a wake that fails leaves the sprite cold and the next one tries again", async () => {
    const { driver, host, written } = setup({ kind: "cold" });
    host.failNext = new Error("no memory");
    await expect(driver.wake()).rejects.toThrow("no memory");
    expect(driver.state).toEqual({ kind: "cold" });
    expect(written.at(-1)).toEqual({ state: { kind: "cold" }, begun: undefined, ended: "i1" });
    await driver.wake();
    expect(driver.state).toEqual({ kind: "running", incarnation: "i2", life: "i2" });
  });

  test("[LIFE-4] the incarnation is stored before its VM is started", async () => {
    const { driver, host, written } = setup({ kind: "cold" });
    let open = (): void => {};
    host.gate = new Promise((resolve) => {
      open = resolve;
    });
    const waking = driver.wake();
    while (host.starts === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(written).toEqual([{ state: { kind: "waking", incarnation: "i1", life: "i1" }, begun: "i1", ended: undefined }]);
    open();
    await waking;
  });

  test("[LIFE-6] a VM that dies makes the sprite cold and the next request wakes it", async () => {
    const { driver, host } = setup({ kind: "cold" });
    await driver.wake();
    host.vms.get("i1")?.end({ kind: "crashed", detail: "killed" });
    await expect.poll(() => driver.state.kind).toBe("cold");
    expect((await driver.wake()).incarnation).toBe("i2");
  });

  test("[LIFE-6] a request that comes while a dead VM is still being cleared away gets a new one", async () => {
    const { driver, host } = setup({ kind: "cold" });
    const first = await driver.wake();
    const { promise, resolve } = Promise.withResolvers<void>();
    host.killGate = promise;
    host.vms.get("i1")?.end({ kind: "crashed", detail: "killed" });
    await first.exited;
    const woken = driver.wake();
    resolve();
    expect((await woken).incarnation).toBe("i2");
  });

  test("[LIFE-7] stop ends the machine in order and the sprite is cold", async () => {
    const { driver, host } = setup({ kind: "cold" });
    await driver.wake();
    await driver.stop();
    expect(host.stops).toEqual(["i1"]);
    expect(driver.state).toEqual({ kind: "cold" });
  });

  test("[LIFE-8] stop of a cold sprite does nothing; a wake during a stop waits for it", async () => {
    const { driver, host } = setup({ kind: "cold" });
    await driver.stop();
    expect(host.stops).toEqual([]);
    await driver.wake();
    const stopped = driver.stop();
    const woken = driver.wake();
    await stopped;
    expect((await woken).incarnation).toBe("i2");
  });

  test("[LIFE-9, LIFE-28] a delete frees a sprite whose machine's end could not be stored", async () => {
    const { driver, store } = setup({ kind: "cold" });
    await driver.wake();
    store.fails = { after: 1, count: 1 };
    await expect(driver.stop()).rejects.toThrow("injected");
    await driver.delete();
    expect([store.isDeleted, store.machine]).toEqual([true, undefined]);
  });

  test("[LIFE-9] delete cuts a wake short and frees everything", async () => {
    const { driver, host, log, store } = setup({ kind: "cold" });
    let open = (): void => {};
    host.gate = new Promise((resolve) => {
      open = resolve;
    });
    const waking = driver.wake();
    waking.catch(() => {});
    while (host.starts === 0) await new Promise((resolve) => setImmediate(resolve));
    const deleted = driver.delete();
    open();
    await deleted;
    await expect(waking).rejects.toThrow(/deleted/);
    expect({ ...log, deleted: store.isDeleted }).toEqual({ deleted: true, freed: true, diskFreed: true });
    await expect(driver.wake()).rejects.toThrow(/not found/);
    expect(host.vms.size).toBe(0);
  });

  const memory = {
    build: "b",
    shape: { cpus: 1, memoryMib: 256 },
    storageGb: 10,
    network: false,
    system: "s",
    generation: 1,
    agentVersion: "",
    ramOffset: 0,
    savedAtMs: 0,
  };
  const record = {
    incarnation: "i1",
    spriteId: "s1",
    directory: "/nowhere",
    slotIndex: undefined,
    key: new Uint8Array(32),
    createdAtMs: 0,
  };
  const of = { incarnation: "i1", life: "i1" };
  const interrupted: [SpriteState, string, string][] = [
    [{ kind: "cold" }, "cold", "cold"],
    [{ kind: "waking", ...of }, "cold", "cold"],
    [{ kind: "waking", ...of, memory }, "running", "cold"],
    [{ kind: "running", ...of }, "running", "cold"],
    [{ kind: "pausing", ...of }, "paused", "cold"],
    [{ kind: "paused", ...of, sinceMs: 0 }, "paused", "cold"],
    [{ kind: "resuming", ...of }, "paused", "cold"],
    [{ kind: "hibernating", ...of }, "paused", "cold"],
    [{ kind: "hibernated", ...of, memory }, "hibernated", "hibernated"],
    [{ kind: "hibernated", incarnation: undefined, life: "i1", memory }, "hibernated", "hibernated"],
    [{ kind: "stopping", ...of }, "cold", "cold"],
    [{ kind: "deleting", incarnation: "i1" }, "deleted", "deleted"],
    [{ kind: "failed", reason: "test", incarnation: "i1" }, "failed", "failed"],
  ];
  test.each(interrupted)(
    "[LIFE-10] [LIFE-21] a daemon that finds %j settles it: %s with its VM, %s without",
    async (state, withVm, without) => {
      for (const alive of "incarnation" in state && state.incarnation !== undefined ? [true, false] : [false]) {
        const host = newHost();
        if (alive) host.boot(undefined, "i1");
        const { driver, store } = setup(state, host);
        await driver.recover("incarnation" in state && state.incarnation !== undefined ? record : undefined);
        const after = store.isDeleted ? "deleted" : driver.state.kind;
        expect(after, `VM ${alive ? "alive" : "gone"}`).toBe(alive ? withVm : without);
        expect(host.vms.size).toBe(["running", "paused"].includes(after) ? 1 : 0);
        if (driver.state.kind === "hibernated") expect(driver.state.incarnation).toBeUndefined();
      }
    },
  );

  test("[LIFE-11] a VM that outlived the daemon is taken over with its incarnation and its life", async () => {
    const host = newHost();
    host.boot(undefined, "i1");
    const { driver } = setup({ kind: "running", incarnation: "i1", life: "i0" }, host);
    await driver.recover(record);
    expect(driver.life?.id).toBe("i0");
    expect((await driver.wake()).incarnation).toBe("i1");
    expect(host.starts).toBe(0);
  });

  test("[LIFE-14] a sprite sleeps with its memory and comes back in the same life, again and again", async () => {
    const { driver, host, written } = setup({ kind: "cold" });
    await driver.wake();
    const { life } = driver;
    for (let round = 2; round < 5; round += 1) {
      await driver.sleep({ depth: "hibernated" });
      expect(driver.state).toMatchObject({ kind: "hibernated", incarnation: undefined, life: "i1" });
      expect(host.vms.size).toBe(0);
      await driver.wake();
      expect(driver.life).toBe(life);
    }
    expect(written.slice(2, 7).map(({ state }) => state.kind)).toEqual(["pausing", "paused", "hibernating", "hibernated", "hibernated"]);
  });

  test("[LIFE-14] a pause keeps the machine, and the next request lets it go on", async () => {
    const { driver, host } = setup({ kind: "cold" });
    const machine = await driver.wake();
    await driver.sleep({ depth: "paused" });
    expect([driver.state.kind, host.vms.get("i1")?.isPaused, driver.machine]).toEqual(["paused", true, undefined]);
    expect(await driver.wake()).toBe(machine);
    expect([driver.state.kind, host.vms.get("i1")?.isPaused]).toEqual(["running", false]);
  });

  test("[LIFE-15] nobody falls asleep who is wanted: the check comes again after each step", async () => {
    const { driver } = setup({ kind: "cold" });
    await driver.wake();
    await driver.sleepIfIdle({ depth: "hibernated", isIdle: () => false });
    expect(driver.state.kind).toBe("running");
    const answers = [true, true, true, false];
    await driver.sleepIfIdle({ depth: "hibernated", isIdle: () => answers.shift() ?? false });
    expect(driver.state.kind).toBe("paused");
  });

  test("[LIFE-15] a request that comes while the sprite falls asleep takes the sleep back", async () => {
    const { driver, host } = setup({ kind: "cold" });
    await driver.wake();
    const slept = driver.sleep({ depth: "hibernated" });
    const woken = driver.wake();
    await slept;
    expect((await woken).incarnation).toBe("i1");
    expect([driver.state.kind, host.starts]).toEqual(["running", 1]);
  });

  test("[LIFE-17] a memory that cannot be saved leaves the sprite paused, with its processes", async () => {
    const { driver, host } = setup({ kind: "cold" });
    await driver.wake();
    host.failSave = new Error("disk full");
    await expect(driver.sleep({ depth: "hibernated" })).rejects.toThrow("disk full");
    expect(driver.state.kind).toBe("paused");
    expect((await driver.wake()).incarnation).toBe("i1");
  });

  test("[LIFE-18] a wake that fails before the VM could run keeps the memory for the next one", async () => {
    const { driver, host } = setup({ kind: "cold" });
    await driver.wake();
    await driver.sleep({ depth: "hibernated" });
    host.failNext = new Error("no network place");
    await expect(driver.wake()).rejects.toThrow("no network place");
    expect(driver.state).toMatchObject({ kind: "hibernated", incarnation: undefined, life: "i1" });
    await driver.wake();
    expect(driver.life?.id).toBe("i1");
  });

  test.each([
    ["no VM takes it", (host: StagedHost) => (host.failNext = new VmmError("vmm_snapshot_unusable", "damaged"))],
    ["its guest does not answer", (host: StagedHost) => (host.failResume = new Error("no answer"))],
    ["it is of another build", (host: StagedHost) => (host.problem = "it was saved by another build of the VMM")],
  ])("[LIFE-19] a memory is given up when %s: the disk is booted, the life has ended", async (_what, damage) => {
    const { driver, host } = setup({ kind: "cold" });
    await driver.wake();
    const { life } = driver;
    await driver.sleep({ depth: "hibernated" });
    damage(host);
    await driver.wake();
    expect(await life?.ended).toMatchObject({ code: "vm_lost" });
    expect([driver.state.kind, driver.life === life]).toEqual(["running", false]);
    expect(host.wrongResumes).toEqual([]);
  });

  test("[LIFE-6] a paused VM that dies makes the sprite cold and ends its life", async () => {
    const { driver, host } = setup({ kind: "cold" });
    await driver.wake();
    const { life } = driver;
    await driver.sleep({ depth: "paused" });
    host.vms.get("i1")?.end({ kind: "crashed", detail: "killed" });
    expect((await life?.ended)?.code).toBe("vm_lost");
    expect(driver.state).toEqual({ kind: "cold", lost: "the sprite's machine ended" });
  });

  test("[LIFE-20] a stop of a sleeping sprite wakes it first, to flush its disk", async () => {
    const { driver, host } = setup({ kind: "cold" });
    await driver.wake();
    const { life } = driver;
    await driver.sleep({ depth: "hibernated" });
    await driver.stop();
    expect([driver.state, host.stops]).toEqual([{ kind: "cold" }, ["i2"]]);
    expect((await life?.ended)?.code).toBe("sprite_stopped");
  });

  test.each(["paused", "hibernated"] as const)("[LIFE-9] a sprite that is %s is deleted with its memory", async (depth) => {
    const { driver, host, log } = setup({ kind: "cold" });
    await driver.wake();
    await driver.sleep({ depth });
    await driver.delete();
    expect([host.vms.size, log.diskFreed]).toEqual([0, true]);
  });

  test("[LIFE-22] a step that needs quiet files gets them in any state, and the sprite is as it was", async () => {
    const { driver, host } = setup({ kind: "cold" });
    expect(await driver.snapshotStep({ memory: true }, async ({ memory: none, machine }) => [none, machine])).toEqual([
      undefined,
      undefined,
    ]);
    await driver.wake();
    const running = await driver.snapshotStep({ memory: true }, async (source) => ({ ...source, paused: host.vms.get("i1")?.isPaused }));
    expect([running.paused, running.memory?.record.build, running.lifeId]).toEqual([true, "staged", "i1"]);
    expect([driver.state.kind, host.vms.get("i1")?.isPaused]).toEqual(["running", false]);
    await driver.sleep({ depth: "hibernated" });
    expect((await driver.snapshotStep({ memory: true }, async (source) => source)).memory?.record.build).toBe("staged");
    await expect(
      driver.snapshotStep({ memory: true }, async () => {
        throw new Error("no room");
      }),
    ).rejects.toThrow("no room");
    await driver.wake();
    expect(driver.life?.id).toBe("i1");
  });

  test("[LIFE-23] a replaced state ends VM and life and goes on with what was put in place", async () => {
    const { driver, host } = setup({ kind: "cold" });
    await driver.wake();
    const { life } = driver;
    const end = { code: "sprite_restored", reason: "the sprite was restored" } as const;
    await driver.replaceState({ end, lifeId: "r1", swap: async () => ({ memory }) });
    expect([driver.state.kind, driver.life?.id, host.vms.size]).toEqual(["hibernated", "placed-r1", 0]);
    expect(await life?.ended).toEqual(end);
    await expect(
      driver.replaceState({
        end,
        lifeId: "r2",
        swap: async () => {
          throw new Error("no room");
        },
      }),
    ).rejects.toThrow("no room");
    expect(driver.state.kind).toBe("cold");
  });

  test("[LIFE-30] what was half replaced is finished before anything uses it; while it cannot be, nothing does", async () => {
    const end = { code: "sprite_restored", reason: "the sprite was restored" } as const;
    const { driver, host } = setup({ kind: "cold" });
    const swaps: string[] = [];
    const swap = async () => {
      swaps.push(driver.state.kind);
      return { settled: () => void (host.unsettled = undefined) };
    };
    const fail = async () => {
      throw new Error("no room");
    };
    host.unsettled = { end, lifeId: "r1", swap: fail };
    await expect(driver.wake()).rejects.toThrow("no room");
    await expect(driver.snapshotStep({ memory: false }, async () => "copied")).rejects.toThrow("no room");
    expect([driver.state.kind, host.vms.size]).toEqual(["cold", 0]);
    host.unsettled = { end, lifeId: "r1", swap };
    expect(await driver.snapshotStep({ memory: false }, async () => "copied")).toBe("copied");
    host.unsettled = { end, lifeId: "r2", swap };
    await driver.wake();
    await driver.settleReplacement();
    expect([driver.state.kind, swaps]).toEqual(["running", ["cold", "cold"]]);
    host.unsettled = { end, lifeId: "r3", swap };
    await driver.settleReplacement();
    expect([driver.state.kind, host.vms.size]).toEqual(["cold", 0]);
  });

  test("[LIFE-32] every start takes a turn and gives it back, a pause needs none", async () => {
    const { driver, host } = setup({ kind: "cold" });
    host.failNext = new VmmError("vmm_exited_early", "no");
    await expect(driver.wake()).rejects.toThrow("no");
    expect(host.turns).toEqual({ taken: 1, held: 0 });
    await driver.wake();
    await driver.sleep({ depth: "paused" });
    await driver.wake();
    expect(host.turns).toEqual({ taken: 2, held: 0 });
    await driver.sleep({ depth: "hibernated" });
    await driver.wake();
    expect(host.turns).toEqual({ taken: 3, held: 0 });
  });

  test("[BOOT-7] a memory that was put in place is another's until it was resumed, also by the daemon that comes after", async () => {
    const { driver, host, written } = setup({ kind: "cold" });
    const end = { code: "sprite_restored", reason: "the sprite was restored" } as const;
    await driver.wake();
    const files = memoryPaths(host.memoryDirectory);
    const swap = async () => {
      for (const file of [files.ram, files.state]) writeFileSync(file, "");
      return { memory };
    };
    await driver.replaceState({ end, lifeId: "r1", swap });
    host.failNext = new VmmError("vmm_exited_early", "no");
    await expect(driver.wake()).rejects.toThrow("no");
    await driver.wake();
    await driver.sleep({ depth: "hibernated" });
    await driver.wake();
    expect(host.memories.map((one) => one?.inherited)).toEqual([undefined, true, true, undefined]);

    const waking = written.find(({ state }) => state.kind === "waking" && state.memory?.inherited)?.state;
    const next = newHost();
    next.boot(undefined, "i2");
    await setup(waking as SpriteState, next).driver.recover({ ...record, incarnation: incarnationOf(waking as SpriteState) as string });
    expect(next.memories.map((one) => one?.inherited)).toEqual([true]);
  });

  test("[LIFE-12] a broken invariant fails this sprite with its reason", async () => {
    const { driver, host } = setup({ kind: "cold" });
    host.failNext = new AssertionError("slot used twice");
    await expect(driver.wake()).rejects.toMatchObject({ code: "sprite_failed" });
    expect(driver.state).toMatchObject({ kind: "failed", reason: "slot used twice" });
    await expect(driver.wake()).rejects.toThrow(/slot used twice/);
    await driver.delete();
  });
});
