import fs from "node:fs/promises";
import { waitFor } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import { VmmError } from "@sprited/vmm";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Operation } from "./operation.ts";
import { World } from "./testing/world.ts";
import type { Trial } from "./throwaway.ts";

/** More gates than any operation passes. */
const GATES_MAX = 60;

let world: World;
beforeEach(async () => {
  world = await World.open();
});
afterEach(() => world[Symbol.asyncDispose]());

const make = async (comment = ""): Promise<string> => (await world.checkpoints.create("org", "sprite", { comment, memory: false }).done).id;
const restore = async (id: string): Promise<string> => (await world.checkpoints.restore("org", "sprite", id).done).previous.id;
const settled = async (id: string): Promise<{ state: string; health: string }> => {
  const find = () => world.records.find("sprite", id);
  await waitFor("the check", { timeoutMs: 5_000 }, () => find()?.state !== "verifying");
  return { state: find()?.state ?? "", health: find()?.health ?? "" };
};
const code = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => "no error",
    (thrown: unknown) => thrown,
  );
  return ApiError.is(error) ? error.code : String(error);
};

/** The operation's end, or that the daemon "died" in it. */
async function outcomeOf(begin: () => Operation<unknown>): Promise<"done" | "failed" | "died"> {
  const begun = async (): Promise<unknown> => await begin().done;
  const ended = begun().then(
    () => "done" as const,
    () => "failed" as const,
  );
  return await Promise.race([ended, world.died.then(() => "died" as const)]);
}

/** What must hold whatever happened. */
async function expectSound(): Promise<void> {
  expect(world.records.restores()).toEqual([]);
  expect(world.records.inState("creating")).toEqual([]);
  const rows = world.records.list("sprite");
  for (const row of rows) await world.files.verify("sprite", row.id);
  const { own, checkpoints } = await world.names();
  expect(checkpoints).toEqual(rows.map(({ id }) => id).sort());
  expect(own.filter((name) => name !== "memory")).toEqual(["disk.raw"]);
}

describe("making", () => {
  it("[CKPT-2, CKPT-6] counts from v0, and the present state comes from the newest", async () => {
    expect([await make(), await make("two")]).toEqual(["v0", "v1"]);
    const list = world.checkpoints.list("org", "sprite", { includeAuto: false });
    expect(list.checkpoints.map(({ id, history, isCurrent }) => ({ id, history, isCurrent }))).toEqual([
      { id: "v1", history: ["v0"], isCurrent: true },
      { id: "v0", history: [], isCurrent: false },
    ]);
    expect(list.currentHistory).toEqual(["v1", "v0"]);
  });

  it("[CKPT-7] is verified in the background, and says what is wrong", async () => {
    await make();
    expect(await settled("v0")).toEqual({ state: "complete", health: "" });
    world.verdict = async () => ({ healthy: false, detail: "torn" });
    await make();
    expect(await settled("v1")).toEqual({ state: "failed", health: "mount_failed" });
    expect(await code(world.checkpoints.restore("org", "sprite", "v0").done)).toBe("no error");
    expect(() => world.checkpoints.restore("org", "sprite", "v1")).toThrow(expect.objectContaining({ code: "checkpoint_damaged" }));
  });

  it("[CKPT-14] one that is still being checked restores, one that failed is refused", async () => {
    const checking = Promise.withResolvers<void>();
    world.verdict = async () => {
      await checking.promise;
      return { healthy: false, detail: "torn" };
    };
    await make();
    await world.write("second");
    await restore("v0");
    expect(await world.read()).toBe("first");
    checking.resolve();
    await settled("v0");
    expect(() => world.checkpoints.restore("org", "sprite", "v0")).toThrow(expect.objectContaining({ code: "checkpoint_damaged" }));
    expect(await world.read()).toBe("first");
  });

  it("[CKPT-8] a check without a verdict is tried again and never becomes one", async () => {
    let calls = 0;
    world.verdict = async () => {
      calls += 1;
      throw new Error("no such program");
    };
    await make();
    await waitFor("three attempts", { timeoutMs: 5_000 }, () => calls === 3 && world.records.find("sprite", "v0")?.health === "unchecked");
    expect(world.records.find("sprite", "v0")?.state).toBe("verifying");
    world.verdict = async () => ({ healthy: true, detail: "" });
    await world.restart();
    expect(await settled("v0")).toEqual({ state: "complete", health: "" });
  });

  it("[CKPT-8, CKPT-9] a memory fails when it is refused, or never answers; not when its trial is ended or answers later", async () => {
    await world.run("build 1");
    const answers: (Trial["outcome"] | "killed")[] = [];
    let trials = 0;
    world.trial = async () => {
      trials += 1;
      const outcome = answers.shift() ?? "answered";
      if (outcome === "killed") throw new VmmError("vmm_exited_early", "killed");
      return { outcome, detail: outcome };
    };
    const verified = async (...given: typeof answers): Promise<[trials: number, state: string, health: string]> => {
      answers.splice(0, answers.length, ...given);
      trials = 0;
      const { id } = await world.checkpoints.create("org", "sprite", { comment: "", memory: true }).done;
      const { state, health } = await settled(id);
      return [trials, state, health];
    };
    expect(await verified("refused")).toEqual([1, "failed", "resume_failed"]);
    expect(await verified("silent", "killed")).toEqual([3, "complete", ""]);
    expect(await verified("silent", "silent", "silent")).toEqual([3, "failed", "resume_failed"]);
    answers.push("silent", "killed", "silent");
    trials = 0;
    const { id } = await world.checkpoints.create("org", "sprite", { comment: "", memory: true }).done;
    const found = () => world.records.find("sprite", id);
    await waitFor("three attempts", { timeoutMs: 5_000 }, () => trials === 3 && found()?.health === "unchecked");
    expect(found()?.state).toBe("verifying");
  });

  it("[CKPT-5] meta data that was changed, and files of another size, are noticed", async () => {
    const damages = [
      async (paths: { directory: string }) => {
        const file = `${paths.directory}/meta.json`;
        await fs.writeFile(file, (await fs.readFile(file, "utf8")).replace('"minimal"', '"maximal"'));
      },
      async (paths: { diskPath: string }) => fs.appendFile(paths.diskPath, "more"),
      async (paths: { diskPath: string }) => fs.rm(paths.diskPath),
    ];
    for (const damage of damages) {
      const id = await make();
      await settled(id);
      await damage(world.files.paths("sprite", id));
      await world.write("kept");
      await expect(world.checkpoints.restore("org", "sprite", id).done).rejects.toMatchObject({ code: "disk_damaged" });
      expect(await world.read()).toBe("kept");
      expect(world.ended).toBe(0);
      await world.files.remove("sprite", id);
      world.records.remove("sprite", id);
    }
    await expectSound();
  });

  it("[CKPT-1] fails or dies at any step: afterwards it is there whole, or not at all", async () => {
    for (const kind of ["throw", "die"] as const) {
      for (let at = 0; at < GATES_MAX; at += 1) {
        const before = world.records.list("sprite").length;
        world.arm({ kind, at });
        const outcome = await outcomeOf(() => world.checkpoints.create("org", "sprite", { comment: "", memory: false }));
        const met = world.wasMet;
        if (kind === "throw" && met) expect(outcome).toBe("failed");
        await world.restart();
        await expectSound();
        const added = world.records.list("sprite").length - before;
        if (outcome === "done") expect(added).toBe(1);
        if (!met) break;
        expect(at).toBeLessThan(GATES_MAX - 1);
      }
    }
    await world.write("later");
    for (const { id } of world.records.list("sprite").filter(({ isAuto }) => !isAuto)) expect(await world.contentOf(id)).toBe("first");
  });

  it("[CKPT-23] more changes than may wait are refused as busy", async () => {
    const all = await Promise.all(
      Array.from({ length: 12 }, () => code(world.checkpoints.create("org", "sprite", { comment: "", memory: false }).done)),
    );
    expect(all.filter((one) => one === "busy")).toHaveLength(4);
    expect(all.filter((one) => one === "no error")).toHaveLength(8);
  });

  it("[CKPT-23] whoever watches late sees everything; leaving changes nothing", async () => {
    const operation = world.checkpoints.create("org", "sprite", { comment: "", memory: true });
    for await (const event of operation.events()) {
      expect(event.type).toBe("info");
      break;
    }
    await operation.done;
    const types: string[] = [];
    for await (const event of operation.events()) types.push(event.type);
    expect(types).toEqual(["info", "info", "complete"]);
  });
});

describe("restoring", () => {
  it("[CKPT-10, CKPT-16] brings the state back, keeps the one before, and can be undone and done again", async () => {
    await make();
    await world.write("second");
    expect(await restore("v0")).toBe("auto-1");
    expect([await world.read(), await world.contentOf("auto-1")]).toEqual(["first", "second"]);
    expect(world.checkpoints.get("org", "sprite", "v0").isCurrent).toBe(true);
    const undone = await world.checkpoints.undoRestore("org", "sprite").done;
    expect([undone.checkpoint.id, undone.previous.id, await world.read()]).toEqual(["auto-1", "auto-2", "second"]);
    await world.checkpoints.undoRestore("org", "sprite").done;
    expect(await world.read()).toBe("first");
    await expectSound();
  });

  it("[CKPT-4, CKPT-11, CKPT-15] memory comes back with its disk, but not another build's", async () => {
    await world.run("build 1");
    const kept = await world.checkpoints.create("org", "sprite", { comment: "", memory: true }).done;
    expect(kept.hasMemory).toBe(true);
    expect((await world.checkpoints.restore("org", "sprite", kept.id).done).withMemory).toBe(true);
    expect(world.placed?.build).toBe("build 1");
    expect(await fs.readFile(`${world.root}/sprites/sprite/memory/ram`, "utf8")).toBe("ram of build 1");
    await world.run("build 2");
    const foreign = await world.checkpoints.create("org", "sprite", { comment: "", memory: true }).done;
    await world.write("changed");
    const operation = world.checkpoints.restore("org", "sprite", foreign.id);
    expect((await operation.done).withMemory).toBe(false);
    const said: string[] = [];
    for await (const event of operation.events()) if (event.type === "info") said.push(event.text);
    expect(said.join("\n")).toContain("another build");
    expect([await world.read(), world.placed]).toEqual(["first", undefined]);
    await expectSound();
  });

  it("[CKPT-16] without a restore there is nothing to undo", () => {
    expect(() => world.checkpoints.undoRestore("org", "sprite")).toThrow(expect.objectContaining({ code: "checkpoint_not_found" }));
  });

  it("[CKPT-12] fails at any step: the sprite is as it was, and the next restore works", async () => {
    await make();
    await settled("v0");
    for (let at = 0; at < GATES_MAX; at += 1) {
      await world.write(`state ${at}`);
      const before = world.records.list("sprite").length;
      world.arm({ kind: "throw", at });
      const outcome = await outcomeOf(() => world.checkpoints.restore("org", "sprite", "v0"));
      const met = world.wasMet;
      world.disarm();
      if (outcome === "failed") {
        expect([await world.read(), world.records.list("sprite").length, world.records.restores()]).toEqual([`state ${at}`, before, []]);
        await world.restart();
        await expectSound();
      }
      if (!met) {
        expect([outcome, await world.read()]).toEqual(["done", "first"]);
        break;
      }
      expect(at).toBeLessThan(GATES_MAX - 1);
    }
    await world.write("again");
    await restore("v0");
    expect(await world.read()).toBe("first");
  });

  it("[CKPT-17] fails, and so does what puts it right: before the sprite is used again it is whole, and the next restore works", async () => {
    await make();
    await settled("v0");
    let finished = 0;
    for (let at = 0; at < GATES_MAX; at += 1) {
      await world.write(`state ${at}`);
      world.arm({ kind: "throw", at, count: 4 });
      const outcome = await outcomeOf(() => world.checkpoints.restore("org", "sprite", "v0"));
      const met = world.wasMet;
      world.disarm();
      await world.use();
      const now = await world.read();
      if (now === "first") {
        finished += 1;
        const autos = world.records.list("sprite").filter(({ isAuto }) => isAuto);
        expect(await world.contentOf(autos.at(-1)?.id ?? "")).toBe(`state ${at}`);
        expect(world.records.current("sprite")).toBe("v0");
      } else expect([outcome, now]).toEqual(["failed", `state ${at}`]);
      await world.write("between");
      await restore("v0");
      expect(await world.read()).toBe("first");
      expect(world.records.restores()).toEqual([]);
      await world.restart();
      await expectSound();
      if (!met) break;
      expect(at).toBeLessThan(GATES_MAX - 1);
    }
    expect(finished).toBeGreaterThan(1);
  });

  it("[CKPT-20] what an unfinished restore needs is not deleted", async () => {
    await make();
    await make();
    await Promise.all(["v0", "v1"].map(settled));
    const { restore: begun } = world.records.beginRestore({ spriteId: "sprite", targetId: "v0", withMemory: false, startedAtMs: 1 });
    expect(await code(world.checkpoints.delete("org", "sprite", "v0"))).toBe("checkpoint_in_use");
    world.records.undoRestore(begun);
    await world.checkpoints.delete("org", "sprite", "v0");
    expect(world.records.ids("sprite")).toEqual(["v1"]);
  });

  it("[CKPT-13] the daemon dies at any step: finished or rolled back, never a mixture, and nothing is lost", async () => {
    await make();
    await settled("v0");
    for (let at = 0; at < GATES_MAX; at += 1) {
      await world.write(`state ${at}`);
      world.arm({ kind: "die", at });
      const outcome = await outcomeOf(() => world.checkpoints.restore("org", "sprite", "v0"));
      const met = world.wasMet;
      await world.restart();
      await expectSound();
      const now = await world.read();
      expect([`state ${at}`, "first"]).toContain(now);
      if (now === "first") {
        const autos = world.records.list("sprite").filter(({ isAuto }) => isAuto);
        expect(await world.contentOf(autos.at(-1)?.id ?? "")).toBe(`state ${at}`);
        expect(world.records.current("sprite")).toBe("v0");
      }
      if (!met) {
        expect([outcome, now]).toEqual(["done", "first"]);
        break;
      }
      expect(at).toBeLessThan(GATES_MAX - 1);
    }
  });
});

describe("deleting", () => {
  it("[CKPT-20] not the current one, not one that is needed; the rest joins the parent", async () => {
    for (let count = 0; count < 3; count += 1) await make();
    await Promise.all(["v0", "v1", "v2"].map(settled));
    expect(await code(world.checkpoints.delete("org", "sprite", "v2"))).toBe("checkpoint_in_use");
    world.checkpoints.addUse((_sprite, id) => (id === "v0" ? "the template `base` is made of it" : undefined));
    expect(await code(world.checkpoints.delete("org", "sprite", "v0"))).toBe("checkpoint_in_use");
    await world.checkpoints.delete("org", "sprite", "v1");
    expect(world.checkpoints.get("org", "sprite", "v2").history).toEqual(["v0"]);
    expect(await code(world.checkpoints.delete("org", "sprite", "v1"))).toBe("checkpoint_not_found");
    await expectSound();
  });

  it("[CKPT-21] the states before old restores go", async () => {
    world.autoKeep = 2;
    await world.restart();
    await make();
    for (let count = 0; count < 4; count += 1) await restore("v0");
    expect(world.records.list("sprite").map(({ id }) => id)).toEqual(["v0", "auto-3", "auto-4"]);
    await expectSound();
  });

  it("[CKPT-22] files that no row names go at the next start", async () => {
    await make();
    await fs.mkdir(`${world.root}/checkpoints/sprite/v9`);
    await world.restart();
    await expectSound();
  });
});
