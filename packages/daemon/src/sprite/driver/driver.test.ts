import { AssertionError } from "@sprited/base";
import { VmmError } from "@sprited/vmm";
import { afterEach, describe, expect, test } from "vitest";
import type { SpriteState } from "../lifecycle.ts";
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
    expect(driver.state).toEqual({ kind: "running", incarnation: "i2" });
  });

  test("[LIFE-4] the incarnation is stored before its VM is started", async () => {
    const machines = new StagedMachines();
    const { driver, written } = setup({ kind: "cold" }, machines);
    let open = (): void => {};
    host.gate = new Promise((resolve) => {
      open = resolve;
    });
    const waking = driver.wake();
    while (host.starts === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(written).toEqual([{ state: { kind: "waking", incarnation: "i1" }, begun: "i1", ended: undefined }]);
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

  test("[LIFE-10] whatever state a crash left, recovery settles it", async () => {
    const states: SpriteState[] = [
      { kind: "cold" },
      { kind: "waking", incarnation: "i1" },
      { kind: "running", incarnation: "i1" },
      { kind: "stopping", incarnation: "i1" },
      { kind: "deleting", incarnation: "i1" },
    ];
    const record = {
      incarnation: "i1",
      spriteId: "s1",
      directory: "/nowhere",
      slotIndex: undefined,
      key: new Uint8Array(32),
      createdAtMs: 0,
    };
    for (const state of states) {
      for (const alive of [false, true]) {
        const machines = new StagedMachines();
        if (alive) await host.start(await host.plan("s1"), undefined);
        const { driver, log } = setup(state, machines);
        await driver.recover(state.kind === "cold" ? undefined : record);
        if (state.kind === "deleting") expect(log.deleted).toBe(true);
        else expect(["cold", "running"]).toContain(driver.state.kind);
        expect(driver.state.kind === "running", `${state.kind}, VM ${alive ? "alive" : "gone"}`).toBe(state.kind === "running" && alive);
        if (driver.state.kind !== "running" && state.kind !== "cold") expect(host.vms.size).toBe(0);
      }
    }
  });

  test("[LIFE-11] a VM that outlived the daemon is taken over with its incarnation", async () => {
    const machines = new StagedMachines();
    const record = await host.plan("s1");
    await host.start(record, undefined);
    const { driver } = setup({ kind: "running", incarnation: record.incarnation }, machines);
    await driver.recover(record);
    expect(driver.machine?.incarnation).toBe("i1");
    expect((await driver.wake()).incarnation).toBe("i1");
    expect(host.starts).toBe(1);
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
