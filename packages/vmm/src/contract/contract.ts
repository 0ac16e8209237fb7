/** The suite that every driver passes: registers tests with vitest. */
import { createHash, randomBytes } from "node:crypto";
import { constants } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { VmmErrorCode } from "../errors.ts";
import { VmmError } from "../errors.ts";
import type { MemorySnapshot, VmmDriver, VmProcess, VmSpec } from "../vmm.ts";
import { askGuest, type ContractWorld, GuestTalk, type SavedMachine, SILENCE_MS } from "./world.ts";

/** Console text that a driver may keep, characters. */
const CONSOLE_CHARACTERS_MAX = 65_536;

export function vmmContract(name: string, openWorld: () => Promise<ContractWorld>): void {
  describe(`${name} keeps the contract of VMM drivers`, () => {
    const bench = new Bench(openWorld);
    beforeAll(() => bench.open());
    afterAll(() => bench.close());
    coldStarts(bench);
    pauses(bench);
    resumes(bench);
    ownMemory(bench);
    ends(bench);
    adoptions(bench);
    refusals(bench);
  });
}

/** The world of a run with what its tests share: one machine saved after a cold boot. */
class Bench {
  world!: ContractWorld;
  saved!: SavedMachine;
  readonly #openWorld: () => Promise<ContractWorld>;

  constructor(openWorld: () => Promise<ContractWorld>) {
    this.#openWorld = openWorld;
  }

  async open(): Promise<void> {
    this.world = await this.#openWorld();
    const vm = await this.start(this.fresh());
    await askGuest(vm, "add");
    const number = await askGuest(vm, "add");
    await vm.pause();
    const snapshot = await vm.saveState(this.path("state"));
    await finish(vm);
    this.saved = { snapshot, number };
  }

  async close(): Promise<void> {
    await this.world?.[Symbol.asyncDispose]();
  }

  get driver(): VmmDriver {
    return this.world.driver;
  }

  /** A path of its own for a file of this test. */
  path(kind: string): string {
    return path.join(this.world.directory, `${kind}-${randomBytes(4).toString("hex")}`);
  }

  spec(memory: VmSpec["memory"]): VmSpec {
    const incarnation = `contract${randomBytes(4).toString("hex")}`;
    return { ...this.world.machine(), incarnation, directory: path.join(this.world.directory, incarnation), memory };
  }

  fresh(): VmSpec {
    return this.spec({ kind: "fresh", path: this.path("ram") });
  }

  resumed(mapping: "private" | "shared", snapshot: MemorySnapshot = this.saved.snapshot): VmSpec {
    return this.spec({ kind: "snapshot", snapshot, mapping });
  }

  /** The saved machine with files of its own. */
  async copy(): Promise<MemorySnapshot> {
    const { snapshot } = this.saved;
    const copy = { ...snapshot, ramPath: this.path("ram"), statePath: this.path("state") };
    await fs.copyFile(snapshot.ramPath, copy.ramPath, constants.COPYFILE_FICLONE);
    await fs.copyFile(snapshot.statePath, copy.statePath, constants.COPYFILE_FICLONE);
    return copy;
  }

  async start(spec: VmSpec, options?: { signal?: AbortSignal }): Promise<VmProcess> {
    return this.driver.start(spec, options);
  }

  /** Starts, hands over, and leaves nothing whatever happens. */
  async with<T>(spec: VmSpec, use: (vm: VmProcess) => Promise<T>): Promise<T> {
    const vm = await this.start(spec);
    try {
      return await use(vm);
    } finally {
      await finish(vm);
    }
  }
}

async function expectNothingOf(world: ContractWorld, spec: VmSpec): Promise<void> {
  await expect(fs.access(spec.directory)).rejects.toThrow("ENOENT");
  expect((await world.traces()).filter((trace) => trace.includes(spec.incarnation))).toEqual([]);
}

async function expectRefused(bench: Bench, spec: VmSpec, code: VmmErrorCode): Promise<void> {
  await expectCode(bench.start(spec), code);
  await expectNothingOf(bench.world, spec);
}

async function finish(vm: VmProcess): Promise<void> {
  await vm.kill();
  await vm.dispose();
}

async function expectCode(work: Promise<unknown>, code: VmmErrorCode): Promise<void> {
  const error = await work.then(
    () => "nothing was thrown",
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(VmmError);
  expect((error as VmmError).code).toBe(code);
}

async function expectSilence(talk: GuestTalk, nonce: string): Promise<void> {
  await expect(talk.answer(nonce, SILENCE_MS)).rejects.toThrow("nothing within");
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash("sha256");
  const handle = await fs.open(file, "r");
  for await (const chunk of handle.createReadStream()) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

function coldStarts(bench: Bench): void {
  describe("a cold start", () => {
    test("runs the guest, whose port can be opened time after time; the console is bounded; nothing stays", async () => {
      const spec = bench.fresh();
      await bench.with(spec, async (vm) => {
        expect(vm.incarnation).toBe(spec.incarnation);
        expect(vm.spec).toEqual(spec);
        expect(await askGuest(vm, "add")).toBe(1);
        expect(await askGuest(vm, "add")).toBe(2);
        expect(await vm.isPaused()).toBe(false);
        expect((await vm.console()).length).toBeLessThanOrEqual(CONSOLE_CHARACTERS_MAX);
      });
      await expectNothingOf(bench.world, spec);
    });

    test("puts the memory where the spec says, as large as the shape", async () => {
      const { ramPath } = bench.saved.snapshot;
      expect((await fs.stat(ramPath)).size).toBe(bench.saved.snapshot.shape.memoryMib * 1024 * 1024);
    });
  });
}

function pauses(bench: Bench): void {
  describe("a pause", () => {
    test("stops the guest and keeps its memory; pause and resume may be repeated", async () => {
      await bench.with(bench.resumed("private"), async (vm) => {
        await using talk = await GuestTalk.open(vm);
        expect(await talk.get()).toBe(bench.saved.number);
        await vm.pause();
        await vm.pause();
        expect(await vm.isPaused()).toBe(true);
        const nonce = talk.ask("add");
        await expectSilence(talk, nonce);
        await vm.resume();
        await vm.resume();
        expect(await vm.isPaused()).toBe(false);
        expect(await talk.answer(nonce)).toBe(bench.saved.number + 1);
      });
    });

    test("is required before the state is saved", async () => {
      await bench.with(bench.resumed("shared", await bench.copy()), async (vm) => {
        await expectCode(vm.saveState(bench.path("state")), "vmm_control");
        expect(await askGuest(vm, "get")).toBe(bench.saved.number);
      });
    });

    test("with the state saved still ends in a running guest", async () => {
      await bench.with(bench.resumed("shared", await bench.copy()), async (vm) => {
        await vm.pause();
        await vm.saveState(bench.path("state"));
        expect(await vm.isPaused()).toBe(true);
        await vm.resume();
        expect(await askGuest(vm, "add")).toBe(bench.saved.number + 1);
        await vm.pause();
        const again = await vm.saveState(bench.path("state"));
        expect((await fs.stat(again.statePath)).size).toBeGreaterThan(0);
      });
    });
  });
}

function resumes(bench: Bench): void {
  describe("a resume", () => {
    test("twice at once from one snapshot by private mapping: each goes its own way, the file stays as it was", async () => {
      const { snapshot, number } = bench.saved;
      const before = await digestOf(snapshot.ramPath);
      const vms = await Promise.all([bench.start(bench.resumed("private")), bench.start(bench.resumed("private"))]);
      try {
        const [one, other] = vms;
        expect(await askGuest(one!, "add")).toBe(number + 1);
        expect(await askGuest(one!, "add")).toBe(number + 2);
        expect(await askGuest(other!, "add")).toBe(number + 1);
      } finally {
        await Promise.all(vms.map(finish));
      }
      expect(await digestOf(snapshot.ramPath)).toBe(before);
    });

    test("by private mapping has no memory of its own to keep", async () => {
      await bench.with(bench.resumed("private"), async (vm) => {
        await vm.pause();
        await expectCode(vm.saveState(bench.path("state")), "vmm_not_shared");
      });
    });

    test("by shared mapping writes into the file: saved again, it goes on from there", async () => {
      const copy = await bench.copy();
      const again = await bench.with(bench.resumed("shared", copy), async (vm) => {
        expect(await askGuest(vm, "add")).toBe(bench.saved.number + 1);
        await vm.pause();
        return vm.saveState(bench.path("state"));
      });
      expect(again).toMatchObject({ ramPath: copy.ramPath, build: bench.driver.build, shape: copy.shape });
      await bench.with(bench.resumed("shared", again), async (vm) => {
        expect(await askGuest(vm, "get")).toBe(bench.saved.number + 1);
      });
    });

    test("is refused for an unusable snapshot, and nothing is left", async () => {
      const { snapshot } = bench.saved;
      await expectRefused(
        bench,
        bench.resumed("private", { ...snapshot, build: `${snapshot.build} of another day` }),
        "vmm_snapshot_unusable",
      );
      await expectRefused(
        bench,
        bench.resumed("private", { ...snapshot, shape: { ...snapshot.shape, cpus: snapshot.shape.cpus + 1 } }),
        "vmm_snapshot_unusable",
      );
      await expectRefused(bench, bench.resumed("private", { ...snapshot, ramPath: bench.path("missing") }), "vmm_snapshot_unusable");
      await expectRefused(bench, bench.resumed("private", { ...snapshot, statePath: bench.path("missing") }), "vmm_snapshot_unusable");
      await expectRefused(bench, bench.resumed("shared", { ...snapshot, statePath: bench.world.directory }), "vmm_snapshot_unusable");
    });

    test.each([
      ["the RAM is cut off", async (copy: MemorySnapshot) => fs.truncate(copy.ramPath, copy.shape.memoryMib * 512 * 1024)],
      ["the state is cut off", async (copy: MemorySnapshot) => fs.truncate(copy.statePath, (await fs.stat(copy.statePath)).size - 1)],
      ["the state is empty", async (copy: MemorySnapshot) => fs.truncate(copy.statePath, 0)],
      ["a byte of the state is wrong", async (copy: MemorySnapshot) => flipLastByte(copy.statePath)],
    ])("is refused when %s, and nothing is left", async (_what, damage) => {
      const copy = await bench.copy();
      await damage(copy);
      await expectRefused(bench, bench.resumed("private", copy), "vmm_snapshot_unusable");
    });
  });
}

function ownMemory(bench: Bench): void {
  const once = (snapshot: MemorySnapshot): VmSpec => bench.spec({ kind: "snapshot", snapshot, mapping: "shared", once: true });
  const isThere = async (file: string): Promise<boolean> =>
    await fs.access(file).then(
      () => true,
      () => false,
    );
  /** A machine that was resumed from the shared snapshot, counted on, and was saved into files of its own. */
  const saveOwn = async (): Promise<MemorySnapshot> => {
    const savePath = bench.path("own");
    await fs.writeFile(savePath, "");
    const memory = { kind: "snapshot", snapshot: bench.saved.snapshot, mapping: "private", savePath } as const;
    return await bench.with(bench.spec(memory), async (vm) => {
      expect(await askGuest(vm, "add")).toBe(bench.saved.number + 1);
      await vm.pause();
      await vm.saveState(bench.path("state"));
      await vm.resume();
      expect(await askGuest(vm, "add")).toBe(bench.saved.number + 2);
      await vm.pause();
      const own = await vm.saveState(bench.path("state"));
      expect(own.ramPath).toBe(savePath);
      return own;
    });
  };

  describe("memory of its own", () => {
    test("is made of a private view by saving it, as often as wanted; later saves write the devices alone", async () => {
      const before = await digestOf(bench.saved.snapshot.ramPath);
      let own = await saveOwn();
      expect(await digestOf(bench.saved.snapshot.ramPath)).toBe(before);
      for (let more = 3; more <= 4; more += 1) {
        own = await bench.with(once(own), async (vm) => {
          expect(await askGuest(vm, "add")).toBe(bench.saved.number + more);
          await vm.pause();
          return await vm.saveState(bench.path("state"));
        });
      }
    });

    test("that can be resumed once is used up when its VM runs, and as it was when the start could not be", async () => {
      const own = await saveOwn();
      const missing = { serial: "missing", path: bench.path("missing"), readOnly: false };
      const spec = once(own);
      await expectRefused(bench, { ...spec, disks: [...spec.disks, missing] }, "vmm_control");
      expect(await isThere(own.statePath)).toBe(true);
      await bench.with(once(own), async (vm) => {
        expect(await isThere(own.statePath)).toBe(false);
        expect(await askGuest(vm, "get")).toBe(bench.saved.number + 2);
      });
      await expectRefused(bench, once(own), "vmm_snapshot_unusable");
    });

    test("whose only resume was cut off with the program goes on in the VM that is found", async () => {
      const before = await bench.start(once(await saveOwn()));
      await bench.world.cutOffStart(before);
      await bench.driver.close();
      bench.world.driver = await bench.world.reopen();
      const vm = await bench.driver.adopt(before.spec.directory);
      expect(await askGuest(vm!, "add")).toBe(bench.saved.number + 3);
      await finish(vm!);
    });
  });
}

async function flipLastByte(file: string): Promise<void> {
  const bytes = await fs.readFile(file);
  bytes[bytes.length - 1]! ^= 0xff;
  await fs.writeFile(file, bytes);
}

function ends(bench: Bench): void {
  describe("an end", () => {
    test("by kill is requested; kill may be repeated; afterwards nothing can be asked of the VM", async () => {
      const spec = bench.resumed("private");
      const vm = await bench.start(spec);
      await Promise.all([vm.kill(), vm.kill()]);
      expect((await vm.exited).kind).toBe("requested");
      await vm.kill();
      await expectCode(vm.pause(), "vmm_exited_early");
      await expectCode(vm.openPort(vm.spec.ports[0]!), "vmm_exited_early");
      await vm.dispose();
      await expectNothingOf(bench.world, spec);
    });

    test("of a paused VM by kill is requested too", async () => {
      const vm = await bench.start(bench.resumed("private"));
      await vm.pause();
      await finish(vm);
      expect((await vm.exited).kind).toBe("requested");
    });

    test("from outside is a crash, and is noticed", async () => {
      const vm = await bench.start(bench.resumed("private"));
      await bench.world.crash(vm);
      expect((await vm.exited).kind).toBe("crashed");
      await vm.dispose();
      await expectNothingOf(bench.world, vm.spec);
    });

    test("by the guest itself is told apart", async () => {
      const vm = await bench.start(bench.resumed("private"));
      const talk = await GuestTalk.open(vm);
      talk.powerOff();
      expect((await vm.exited).kind).toBe("guest");
      await talk[Symbol.asyncDispose]();
      await finish(vm);
      expect((await vm.exited).kind).toBe("guest");
    });

    test("closes open ports", async () => {
      const vm = await bench.start(bench.resumed("private"));
      const port = await vm.openPort(vm.spec.ports[0]!);
      const closed = new Promise((resolve) => port.once("close", resolve));
      port.on("error", () => {}).resume();
      await vm.kill();
      await closed;
      await vm.dispose();
    });
  });
}

function adoptions(bench: Bench): void {
  /** What a restart of the program does to the driver. */
  const restart = async (): Promise<void> => {
    await bench.driver.close();
    bench.world.driver = await bench.world.reopen();
  };

  describe("a restart of the program", () => {
    test("leaves a VM running; it is found again with everything it had", async () => {
      const before = await bench.start(bench.resumed("shared", await bench.copy()));
      await askGuest(before, "add");
      await restart();
      const vm = await bench.driver.adopt(before.spec.directory);
      expect(vm).toMatchObject({ incarnation: before.incarnation, pid: before.pid, spec: before.spec });
      expect(await askGuest(vm!, "add")).toBe(bench.saved.number + 2);
      await vm!.pause();
      expect((await vm!.saveState(bench.path("state"))).build).toBe(bench.driver.build);
      await finish(vm!);
      expect((await vm!.exited).kind).toBe("requested");
      await expectNothingOf(bench.world, before.spec);
    });

    test("keeps a paused VM paused", async () => {
      const before = await bench.start(bench.resumed("private"));
      await before.pause();
      await restart();
      const vm = await bench.driver.adopt(before.spec.directory);
      expect(await vm!.isPaused()).toBe(true);
      await vm!.resume();
      expect(await askGuest(vm!, "get")).toBe(bench.saved.number);
      await finish(vm!);
    });

    test("does not hide the crash of a VM that was found again", async () => {
      const before = await bench.start(bench.resumed("private"));
      await restart();
      const vm = await bench.driver.adopt(before.spec.directory);
      await bench.world.crash(vm!);
      expect((await vm!.exited).kind).toBe("crashed");
      await vm!.dispose();
    });

    test("finds nothing of a VM that ended meanwhile, and removes what it left", async () => {
      const before = await bench.start(bench.resumed("private"));
      await restart();
      await bench.world.crash(before);
      expect(await bench.driver.adopt(before.spec.directory)).toBeUndefined();
      await expectNothingOf(bench.world, before.spec);
      expect(await bench.driver.adopt(before.spec.directory)).toBeUndefined();
    });

    test("ends what is left of a start that was cut off", async () => {
      const before = await bench.start(bench.resumed("private"));
      await bench.world.cutOffStart(before);
      await restart();
      expect(await bench.driver.adopt(before.spec.directory)).toBeUndefined();
      await expectNothingOf(bench.world, before.spec);
    });

    test("never takes a process for a VM because of its pid", async () => {
      const before = await bench.start(bench.resumed("private"));
      const { bystanderLives } = await bench.world.recyclePid(before);
      await restart();
      expect(await bench.driver.adopt(before.spec.directory)).toBeUndefined();
      expect(await bystanderLives()).toBe(true);
      await expectNothingOf(bench.world, before.spec);
    });
  });
}

function refusals(bench: Bench): void {
  describe("a start that cannot be", () => {
    test("for lack of a disk leaves nothing, not even memory", async () => {
      const spec = bench.fresh();
      const missing = { serial: "missing", path: bench.path("missing"), readOnly: false };
      await expectRefused(bench, { ...spec, disks: [...spec.disks, missing] }, "vmm_control");
      await expect(fs.access((spec.memory as { path: string }).path)).rejects.toThrow("ENOENT");
    });

    test("because its directory is another VM's does that one no harm", async () => {
      await bench.with(bench.resumed("private"), async (vm) => {
        await expectCode(bench.start({ ...bench.resumed("private"), directory: vm.spec.directory }), "vmm_control");
        expect(await askGuest(vm, "get")).toBe(bench.saved.number);
      });
    });

    test("because it was called off rejects with the caller's reason and leaves nothing", async () => {
      const reason = new Error("no longer wanted");
      const called = bench.resumed("private");
      await expect(bench.start(called, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
      await expectNothingOf(bench.world, called);
    });

    test("because it is called off on the way rejects with the caller's reason and leaves nothing", async () => {
      for (const delayMs of [1, 8, 25]) {
        const reason = new Error("no longer wanted");
        const controller = new AbortController();
        const spec = bench.resumed("private");
        setTimeout(() => controller.abort(reason), delayMs);
        const outcome = await bench.start(spec, { signal: controller.signal }).catch((error: unknown) => error);
        // A start that was quicker than the call stands.
        if (outcome instanceof Error) expect(outcome).toBe(reason);
        else await finish(outcome as VmProcess);
        await expectNothingOf(bench.world, spec);
      }
    });
  });
}
