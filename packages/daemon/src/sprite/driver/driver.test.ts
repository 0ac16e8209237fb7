import { AssertionError, silentLogger } from "@sprited/base";
import type { VmExit } from "@sprited/vmm";
import { describe, expect, test } from "vitest";
import type { Machine, MachineRecord, Machines } from "../machine/index.ts";
import { SpriteDriver } from "./driver.ts";
import type { SpriteState } from "./lifecycle.ts";
import type { SpriteRecords } from "./records.ts";

/** Machines whose starts and ends the test decides; counts what was acquired and given back. */
class StagedMachines implements Machines {
  live = new Map<string, { end(exit: VmExit): void }>();
  starts = 0;
  failNext: Error | undefined;
  gate: Promise<void> = Promise.resolve();
  killGate: Promise<void> = Promise.resolve();
  stops: string[] = [];
  #count = 0;

  async plan(spriteId: string): Promise<MachineRecord> {
    this.#count += 1;
    return {
      incarnation: `i${this.#count}`,
      spriteId,
      directory: "/nowhere",
      slotIndex: undefined,
      key: new Uint8Array(32),
      createdAtMs: 0,
    };
  }

  async start(record: MachineRecord, _spec: unknown, options: { signal?: AbortSignal | undefined } = {}): Promise<Machine> {
    this.starts += 1;
    await this.gate;
    options.signal?.throwIfAborted();
    if (this.failNext) {
      const error = this.failNext;
      this.failNext = undefined;
      throw error;
    }
    return this.#machine(record.incarnation);
  }

  async adopt(record: MachineRecord): Promise<Machine | undefined> {
    return this.live.has(record.incarnation) ? this.#machine(record.incarnation) : undefined;
  }

  #machine(incarnation: string): Machine {
    let end: (exit: VmExit) => void = () => {};
    const exited = new Promise<VmExit>((resolve) => {
      end = (exit) => {
        this.live.delete(incarnation);
        resolve(exit);
      };
    });
    this.live.set(incarnation, { end });
    return {
      incarnation,
      pid: 1,
      exited,
      link: async () => {
        throw new Error("no guest here");
      },
      stop: async () => {
        this.stops.push(incarnation);
        end({ kind: "requested", detail: "" });
      },
      detach: async () => {},
      kill: async () => {
        await this.killGate;
        end({ kind: "requested", detail: "" });
      },
    };
  }
}

interface Written {
  state: SpriteState;
  begun: string | undefined;
  ended: string | undefined;
}

function setup(state: SpriteState, machines = new StagedMachines()) {
  const written: Written[] = [];
  const log = { deleted: false, freed: false, diskFreed: false };
  const records: SpriteRecords = {
    loadSprites: () => [],
    loadMachines: () => [],
    insertSprite: () => {},
    updateSprite: () => {},
    updateState: (_id, after, change) => {
      written.push({ state: after, begun: change?.machineBegun?.incarnation, ended: change?.machineEnded });
    },
    deleteSprite: () => {
      log.deleted = true;
    },
  };
  const driver = new SpriteDriver({
    spriteId: "s1",
    state,
    records,
    machines,
    machineSpec: () => ({
      shape: { cpus: 1, memoryMib: 256 },
      storageGb: 10,
      diskPath: "/nowhere/disk.raw",
      hostname: "s1",
      machineId: "0".repeat(32),
      renewIdentity: false,
      environment: {},
    }),
    freeDisk: async () => {
      log.diskFreed = true;
    },
    publish: () => {},
    freed: () => {
      log.freed = true;
    },
    stopGraceMs: 1000,
    logger: silentLogger,
    nowMs: () => 0,
  });
  return { driver, machines, written, log };
}

describe("sprite driver", () => {
  test("[LIFE-2] a hundred requests at once share one wake", async () => {
    const { driver, machines } = setup({ kind: "cold" });
    const woken = await Promise.all(Array.from({ length: 100 }, () => driver.wake()));
    expect(machines.starts).toBe(1);
    expect(new Set(woken.map((machine) => machine.incarnation)).size).toBe(1);
    expect(driver.state.kind).toBe("running");
  });

  test("[LIFE-2] a caller that gives up leaves the wake to the others", async () => {
    const { driver, machines } = setup({ kind: "cold" });
    let open = (): void => {};
    machines.gate = new Promise((resolve) => {
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
    const { driver, machines, written } = setup({ kind: "cold" });
    machines.failNext = new Error("no memory");
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
    machines.gate = new Promise((resolve) => {
      open = resolve;
    });
    const waking = driver.wake();
    while (machines.starts === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(written).toEqual([{ state: { kind: "waking", incarnation: "i1" }, begun: "i1", ended: undefined }]);
    open();
    await waking;
  });

  test("[LIFE-6] a VM that dies makes the sprite cold and the next request wakes it", async () => {
    const { driver, machines } = setup({ kind: "cold" });
    await driver.wake();
    machines.live.get("i1")?.end({ kind: "crashed", detail: "killed" });
    await expect.poll(() => driver.state.kind).toBe("cold");
    expect((await driver.wake()).incarnation).toBe("i2");
  });

  test("[LIFE-6] a request that comes while a dead VM is still being cleared away gets a new one", async () => {
    const { driver, machines } = setup({ kind: "cold" });
    const first = await driver.wake();
    const { promise, resolve } = Promise.withResolvers<void>();
    machines.killGate = promise;
    machines.live.get("i1")?.end({ kind: "crashed", detail: "killed" });
    await first.exited;
    const woken = driver.wake();
    resolve();
    expect((await woken).incarnation).toBe("i2");
  });

  test("[LIFE-7] stop ends the machine in order and the sprite is cold", async () => {
    const { driver, machines } = setup({ kind: "cold" });
    await driver.wake();
    await driver.stop();
    expect(machines.stops).toEqual(["i1"]);
    expect(driver.state).toEqual({ kind: "cold" });
  });

  test("[LIFE-8] stop of a cold sprite does nothing; a wake during a stop waits for it", async () => {
    const { driver, machines } = setup({ kind: "cold" });
    await driver.stop();
    expect(machines.stops).toEqual([]);
    await driver.wake();
    const stopped = driver.stop();
    const woken = driver.wake();
    await stopped;
    expect((await woken).incarnation).toBe("i2");
  });

  test("[LIFE-9] delete cuts a wake short and frees everything", async () => {
    const { driver, machines, log } = setup({ kind: "cold" });
    let open = (): void => {};
    machines.gate = new Promise((resolve) => {
      open = resolve;
    });
    const waking = driver.wake();
    waking.catch(() => {});
    while (machines.starts === 0) await new Promise((resolve) => setImmediate(resolve));
    const deleted = driver.delete();
    open();
    await deleted;
    await expect(waking).rejects.toThrow(/deleted/);
    expect(log).toEqual({ deleted: true, freed: true, diskFreed: true });
    await expect(driver.wake()).rejects.toThrow(/not found/);
    expect(machines.live.size).toBe(0);
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
        if (alive) await machines.start(await machines.plan("s1"), undefined);
        const { driver, log } = setup(state, machines);
        await driver.recover(state.kind === "cold" ? undefined : record);
        if (state.kind === "deleting") expect(log.deleted).toBe(true);
        else expect(["cold", "running"]).toContain(driver.state.kind);
        expect(driver.state.kind === "running", `${state.kind}, VM ${alive ? "alive" : "gone"}`).toBe(state.kind === "running" && alive);
        if (driver.state.kind !== "running" && state.kind !== "cold") expect(machines.live.size).toBe(0);
      }
    }
  });

  test("[LIFE-11] a VM that outlived the daemon is taken over with its incarnation", async () => {
    const machines = new StagedMachines();
    const record = await machines.plan("s1");
    await machines.start(record, undefined);
    const { driver } = setup({ kind: "running", incarnation: record.incarnation }, machines);
    await driver.recover(record);
    expect(driver.machine?.incarnation).toBe("i1");
    expect((await driver.wake()).incarnation).toBe("i1");
    expect(machines.starts).toBe(1);
  });

  test("[LIFE-12] a broken invariant fails this sprite with its reason", async () => {
    const { driver, machines } = setup({ kind: "cold" });
    machines.failNext = new AssertionError("slot used twice");
    await expect(driver.wake()).rejects.toMatchObject({ code: "sprite_failed" });
    expect(driver.state).toMatchObject({ kind: "failed", reason: "slot used twice" });
    await expect(driver.wake()).rejects.toThrow(/slot used twice/);
    await driver.delete();
  });
});
