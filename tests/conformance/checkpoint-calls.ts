/** Checkpoints with the official client, unmodified. */
import type { Sprite, StreamMessage } from "@fly/sprites";
import { waitFor } from "@sprited/base";
import { describe, expect, test } from "vitest";
import { ask } from "../kit/http.ts";
import { sdkOf, type Target, withSprite } from "../kit/target.ts";

interface Line {
  type: string;
  data?: string;
  error?: string;
  time: string;
  id?: string;
  previous?: string;
}

/** Reads a progress stream to its end and checks its form. */
async function readLines(response: { processAll(handler: (message: StreamMessage) => void): Promise<void> }): Promise<Line[]> {
  const lines: Line[] = [];
  await response.processAll((message) => void lines.push(message as unknown as Line));
  expect(lines.length).toBeGreaterThan(0);
  for (const line of lines) expect(Date.parse(line.time)).toBeGreaterThan(0);
  expect(lines.slice(0, -1).every(({ type }) => type === "info")).toBe(true);
  return lines;
}

async function create(sprite: Sprite, comment?: string): Promise<string> {
  const last = (await readLines(await sprite.createCheckpoint(comment))).at(-1);
  expect([last?.type, last?.data]).toEqual(["complete", expect.stringContaining(last?.id ?? "no id")]);
  return last?.id ?? "";
}

export function checkpointCalls(target: () => Target): void {
  const automatic = async (sprite: Sprite): Promise<Record<string, unknown>[]> => {
    const answer = await ask(target(), `/v1/sprites/${sprite.name}/checkpoints?includeAuto=true`);
    return (answer.json() as unknown as Record<string, unknown>[]).filter((one) => one["is_auto"]);
  };

  test("[CKPT-30] made while the sprite runs, listed newest first, read one by one", async () => {
    await withSprite(target(), "points", async (sprite) => {
      const command = sprite.spawn("sh", ["-c", "echo up; read line; echo heard $line"]);
      let output = "";
      command.stdout.on("data", (data: Buffer) => (output += data.toString()));
      await waitFor("the command", { timeoutMs: 60_000 }, () => output.includes("up"));
      expect(await create(sprite, "clean")).toBe("v0");
      expect(await create(sprite)).toBe("v1");
      command.stdin.write("me\n");
      expect(await command.wait()).toBe(0);
      expect(output).toContain("heard me");
      const list = await sprite.listCheckpoints();
      expect(list.map(({ id }) => id)).toEqual(["v1", "v0", "Current"]);
      const first = await sprite.getCheckpoint("v0");
      expect(first).toMatchObject({ id: "v0", comment: "clean", history: [] });
      expect(first.createTime.getTime()).toBeGreaterThan(Date.now() - 600_000);
      expect((await sprite.listCheckpoints("v1")).map(({ id }) => id)).toEqual(["v1", "Current"]);
      await waitFor("the check", { timeoutMs: 120_000, everyMs: 200 }, async () => {
        const { state } = (await ask(target(), `/v1/sprites/${sprite.name}/checkpoints/v0`)).json();
        return state === "complete";
      });
    });
  });

  test("[CKPT-10, CKPT-11] a restore ends sessions, keeps the state before, and the sprite wakes by itself", async () => {
    await withSprite(target(), "back", async (sprite) => {
      const id = await create(sprite, "before");
      const command = sprite.spawn("sh", ["-c", "echo up; exec sleep 600"]);
      const ended = command.wait().then(
        (code) => code,
        (error: Error) => error.message,
      );
      await new Promise<void>((resolve) => command.stdout.once("data", () => resolve()));
      const last = (await readLines(await sprite.restoreCheckpoint(id))).at(-1);
      expect(last).toMatchObject({ type: "complete", id, previous: "auto-1" });
      expect(await ended).not.toBe(0);
      expect((await automatic(sprite)).map((one) => one["id"])).toEqual(["auto-1"]);
      const answer = await ask(target(), `/v1/sprites/${sprite.name}/restore/undo`, { method: "POST" });
      expect(
        answer.text
          .trim()
          .split("\n")
          .map((line) => (JSON.parse(line) as Line).type)
          .at(-1),
      ).toBe("complete");
      expect((await sprite.execFile("echo", ["well"])).stdout).toBe("well\n");
    });
  });

  test("[CKPT-20] deleted, but not the current one", async () => {
    await withSprite(target(), "less", async (sprite) => {
      await create(sprite);
      await create(sprite);
      const path = `/v1/sprites/${sprite.name}/checkpoints`;
      const refused = await ask(target(), `${path}/v1`, { method: "DELETE" });
      expect([refused.status, refused.json()["error"]]).toEqual([409, "checkpoint_in_use"]);
      expect((await ask(target(), `${path}/v0`, { method: "DELETE" })).status).toBe(204);
      expect((await sprite.listCheckpoints()).map(({ id }) => id)).toEqual(["v1", "Current"]);
    });
  });

  describe("what is wrong is said", () => {
    test("unknown ids and sprites", async () => {
      await withSprite(target(), "none", async (sprite) => {
        await expect(sprite.getCheckpoint("v7")).rejects.toThrow("v7");
        await expect(sprite.restoreCheckpoint("v7")).rejects.toThrow(/404.*checkpoint_not_found/);
      });
      await expect(sdkOf(target()).sprite("not-there-at-all").createCheckpoint()).rejects.toThrow(/404.*sprite_not_found/);
    });

    test("a body that is none", async () => {
      await withSprite(target(), "body", async (sprite) => {
        const answer = await ask(target(), `/v1/sprites/${sprite.name}/checkpoint`, { method: "POST", json: { comment: 7 } });
        expect([answer.status, answer.json()["error"]]).toEqual([400, "body_invalid"]);
      });
    });
  });
}
