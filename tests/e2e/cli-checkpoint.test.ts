/** Save points, forks and one-file sprites from the command line, against the whole daemon with simulated machines. */
import fs from "node:fs/promises";
import path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";
import { uniqueName, withSprite } from "../kit/target.ts";
import { CliHome } from "./cli-run.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

let daemon: SimulatedTarget;
let home: CliHome;

beforeAll(async () => {
  daemon = await openSimulated();
});
afterAll(() => daemon[Symbol.asyncDispose]());
beforeEach(async () => {
  home = await CliHome.make({ SPRITES_API_URL: daemon.baseUrl, SPRITED_HOME: daemon.layout.root });
});
afterEach(() => home.remove());

describe("save points", () => {
  test("[CKPT-40] made, drawn as a tree, restored, undone, deleted", async () => {
    await withSprite(daemon, "tree", async ({ name }) => {
      const run = async (...args: string[]) => await home.run([...args, "-s", name]);
      expect((await run("checkpoint", "list")).err).toContain("no checkpoints yet");
      expect((await run("checkpoint", "create", "--comment", "clean")).out).toMatch(new RegExp(`^saved ${name} as v0 in `));
      expect((await run("checkpoints", "create")).code).toBe(0);
      const restored = await run("restore", "v0");
      expect(restored).toMatchObject({ code: 0, err: "The state before is auto-1; `sprite restore --undo` goes back to it.\n" });
      const tree = (await run("checkpoint", "list")).out.split("\n").map((line) => line.slice(0, 14).trimEnd());
      expect(tree.slice(0, 5)).toEqual(["CHECKPOINT", "v0", "├─ v1", "│  └─ auto-1", "└─ ● now"]);
      expect((await run("checkpoint", "info", "v0")).out).toContain("clean");
      expect((await run("checkpoint", "restore", "--undo")).out).toMatch(/^restored .* to auto-1 in /);
      expect(await run("checkpoint", "delete", "v0")).toMatchObject({ code: 0, out: `deleted v0 of ${name}\n` });
      expect((await run("restore", "v0")).err).toMatch(/^error: .*no checkpoint "v0"/);
      expect((await run("restore")).code).toBe(2);
      const json = JSON.parse((await run("checkpoint", "create", "--json")).out) as { id: string };
      expect(json.id).toBe("v2");
    });
  });

  test("[FORK-6] forks with names", async () => {
    await withSprite(daemon, "origin", async ({ name }) => {
      const names = [uniqueName("fork"), uniqueName("fork")];
      expect((await home.run(["fork", ...names, "-s", name])).out.trim().split("\n")).toEqual(names);
      expect((await home.run(["fork", ...names, "-s", name])).err).toContain("exists already");
      for (const one of names) expect((await home.run(["destroy", one, "--force"])).code).toBe(0);
    });
  });

  test("[ARCH-1] one file out, one sprite in", async () => {
    await withSprite(daemon, "packed", async ({ name }) => {
      const file = path.join(home.dir, "a.sprite");
      expect(await home.run(["export", file, "-s", name])).toMatchObject({ code: 0, out: `wrote ${name} to ${file}\n` });
      expect((await home.run(["export", file, "-s", name])).err).toContain("is there already");
      const made = uniqueName("unpacked");
      expect(await home.run(["import", file, made])).toMatchObject({ code: 0, out: `imported ${made}\n` });
      expect((await home.run(["import", "-", made], { input: await fs.readFile(file) })).err).toContain("exists already");
      expect((await home.run(["import", file.replace("a.sprite", "none")])).code).toBe(1);
      await home.run(["destroy", made, "--force"]);
    });
  });
});
