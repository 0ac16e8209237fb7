/** Checkpoints in the whole daemon over the simulated VMM: over restarts, with memory, with checks that fail. */
import fs from "node:fs/promises";
import path from "node:path";
import { waitFor } from "@sprited/base";
import { describe, expect, test, vi } from "vitest";
import { useTarget } from "../conformance/suite.ts";
import { ask } from "../kit/http.ts";
import { openSimulated } from "../kit/simulated.ts";
import { sdkOf, withSprite } from "../kit/target.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

describe("checkpoints in the daemon", () => {
  let sound = true;
  const target = useTarget(() => openSimulated({ checkDisk: async () => ({ healthy: sound, detail: "" }) }));
  const post = async (name: string, call: string, json?: unknown): Promise<Record<string, unknown>> => {
    const answer = await ask(target(), `/v1/sprites/${name}/${call}`, { method: "POST", ...(json === undefined ? {} : { json }) });
    return JSON.parse(answer.text.trim().split("\n").at(-1) ?? "{}") as Record<string, unknown>;
  };
  const stateOf = async (name: string, id: string): Promise<unknown> =>
    (await ask(target(), `/v1/sprites/${name}/checkpoints/${id}`)).json()["state"];
  const settled = async (name: string, id: string): Promise<unknown> => {
    await waitFor("the check", { timeoutMs: 10_000 }, async () => (await stateOf(name, id)) !== "verifying");
    return await stateOf(name, id);
  };
  const diskOf = (id: string): string => path.join(target().layout.sprites, id, "disk.raw");

  test("[CKPT-1, CKPT-10, CKPT-16] made, restored and undone over restarts of the daemon", async () => {
    await withSprite(target(), "kept", async (sprite) => {
      const disk = diskOf(sprite.id ?? "");
      await sprite.execFile("true", []);
      await fs.writeFile(disk, "first");
      expect(await post(sprite.name, "checkpoint", { comment: "over restarts" })).toMatchObject({ type: "complete", id: "v0" });
      await fs.writeFile(disk, "second");
      await target().restart();
      expect(await settled(sprite.name, "v0")).toBe("complete");
      expect(await post(sprite.name, "checkpoints/v0/restore")).toMatchObject({ type: "complete", previous: "auto-1" });
      expect(await fs.readFile(disk, "utf8")).toBe("first");
      await target().restart();
      expect(await post(sprite.name, "restore/undo")).toMatchObject({ type: "complete", id: "auto-1" });
      expect(await fs.readFile(disk, "utf8")).toBe("second");
      expect((await sdkOf(target()).sprite(sprite.name).execFile("echo", ["well"])).stdout).toBe("well\n");
    });
  });

  test("[CKPT-4, CKPT-9, CKPT-11] with memory: the sprite sleeps in it afterwards, over a restart too", async () => {
    await withSprite(target(), "memory", async (sprite) => {
      await sprite.execFile("true", []);
      expect(await post(sprite.name, "checkpoint", { memory: true })).toMatchObject({ type: "complete", memory: true });
      expect((await ask(target(), `/v1/sprites/${sprite.name}`)).json()["status"]).toBe("running");
      expect(await settled(sprite.name, "v0")).toBe("complete");
      const { host } = target();
      await waitFor("the trial's machine to go", { timeoutMs: 10_000 }, () => host.running().length <= 1);
      expect(await post(sprite.name, "checkpoints/v0/restore")).toMatchObject({ type: "complete", memory: true });
      expect((await ask(target(), `/v1/sprites/${sprite.name}`)).json()["status"]).toBe("warm");
      await target().restart();
      expect((await ask(target(), `/v1/sprites/${sprite.name}`)).json()["status"]).toBe("warm");
      expect((await sdkOf(target()).sprite(sprite.name).execFile("echo", ["awake"])).stdout).toBe("awake\n");
    });
  });

  test("[CKPT-7, CKPT-14] a check that fails is seen, and the checkpoint refused", async () => {
    await withSprite(target(), "torn", async (sprite) => {
      sound = false;
      await post(sprite.name, "checkpoint");
      expect(await settled(sprite.name, "v0")).toBe("failed");
      sound = true;
      const answer = await ask(target(), `/v1/sprites/${sprite.name}/checkpoints/v0/restore`, { method: "POST" });
      expect([answer.status, answer.json()["error"]]).toEqual([409, "checkpoint_damaged"]);
    });
  });

  test("[CKPT-22] go with their sprite", async () => {
    let directory = "";
    await withSprite(target(), "gone", async (sprite) => {
      directory = path.join(target().layout.checkpoints, sprite.id ?? "");
      await post(sprite.name, "checkpoint");
      expect(await fs.readdir(directory)).toEqual(["v0"]);
    });
    await waitFor("the files to go", { timeoutMs: 10_000 }, async () => (await fs.stat(directory).catch(() => undefined)) === undefined);
  });
});
