/** Faults that are injected from outside; everything a healthy driver does is in the contract suite. */
import fs from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { VmmError } from "../errors.ts";
import type { VmSpec } from "../vmm.ts";
import { openSimulatedDriver } from "./driver.ts";
import { SimulatedHost } from "./host.ts";

describe("a fault of the simulated host", () => {
  let directory: string;
  const host = new SimulatedHost();
  const driver = openSimulatedDriver({ host, guest: async () => ({ [Symbol.asyncDispose]: async () => {} }) });
  beforeAll(async () => {
    directory = await fs.mkdtemp(path.join(tmpdir(), "sprited-faults-"));
  });
  afterAll(() => fs.rm(directory, { recursive: true }));

  const spec = (incarnation: string): VmSpec => ({
    incarnation,
    directory: path.join(directory, incarnation),
    shape: { cpus: 1, memoryMib: 32 },
    kernel: { imagePath: "none", initrdPath: "none", commandLine: "" },
    disks: [],
    nics: [],
    ports: ["port"],
    memory: { kind: "fresh", path: path.join(directory, `${incarnation}-ram`) },
  });

  test("fails one start with the given error and leaves nothing", async () => {
    const error = new VmmError("vmm_timeout", "the VM did not start in time");
    host.failNextStart({ kind: "fail", error });
    await expect(driver.start(spec("one"))).rejects.toBe(error);
    expect(await fs.readdir(directory)).toEqual([]);
    const vm = await driver.start(spec("one"));
    await vm.kill();
    await vm.dispose();
  });

  test("hangs one start until it is called off", async () => {
    host.failNextStart({ kind: "hang" });
    const controller = new AbortController();
    const start = driver.start(spec("two"), { signal: controller.signal });
    controller.abort(new Error("called off"));
    await expect(start).rejects.toThrow("called off");
    expect(host.running()).toEqual([]);
  });

  test("makes a machine mute: it cannot be steered, but ended", async () => {
    const vm = await driver.start(spec("three"));
    host.hang("three");
    for (const work of [vm.pause(), vm.resume(), vm.isPaused(), vm.saveState(path.join(directory, "state"))]) {
      await expect(work).rejects.toMatchObject({ code: "vmm_timeout" });
    }
    await vm.kill();
    expect((await vm.exited).kind).toBe("requested");
    await vm.dispose();
  });

  test("is asked for of a machine that runs", async () => {
    await expect(host.crash("nobody")).rejects.toMatchObject({ code: "vmm_exited_early" });
  });
});
