/** Export and import over the simulated VMM. */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import zlib from "node:zlib";
import { describe, expect, test, vi } from "vitest";
import { useTarget } from "../conformance/suite.ts";
import { ask } from "../kit/http.ts";
import { openSimulated } from "../kit/simulated.ts";
import { sdkOf, uniqueName, withSprite } from "../kit/target.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

describe("a sprite as one file", () => {
  const target = useTarget(() => openSimulated());
  const diskOf = (id: string): string => path.join(target().layout.sprites, id, "disk.raw");
  const bring = async (name: string, body: Uint8Array) => await ask(target(), `/v1/sprites/${name}/import`, { method: "POST", body });
  const scratch = async (): Promise<string[]> => await fs.readdir(target().layout.scratch);

  test("[ARCH-1, ARCH-2, ARCH-5] comes back with disk and settings, of now and of a checkpoint", async () => {
    await withSprite(target(), "packed", async (sprite) => {
      const content = Buffer.concat([Buffer.alloc(300_000), Buffer.from("data"), Buffer.alloc(2_000_000), Buffer.from("end")]);
      await fs.writeFile(diskOf(sprite.id ?? ""), content);
      await (await sprite.createCheckpoint()).processAll(() => {});
      await fs.writeFile(diskOf(sprite.id ?? ""), "later");
      for (const [query, expected] of [
        ["", Buffer.from("later")],
        ["?checkpoint=v0", content],
      ] as const) {
        const archive = await ask(target(), `/v1/sprites/${sprite.name}/export${query}`);
        expect([archive.status, archive.headers["content-type"]]).toEqual([200, "application/zstd"]);
        expect(archive.body.length).toBeLessThan(2_000);
        const name = uniqueName("unpacked");
        const made = await bring(name, archive.body);
        expect(made.status, made.text).toBe(201);
        const { id, image } = made.json() as { id: string; image: string };
        expect(await fs.readFile(diskOf(id))).toEqual(expected);
        expect(image).toBe("minimal");
        expect((await sdkOf(target()).sprite(name).execFile("echo", ["runs"])).stdout).toBe("runs\n");
        await sdkOf(target()).deleteSprite(name);
      }
      expect(await scratch()).toEqual([]);
    });
  });

  test("[ARCH-3] damaged, cut off or foreign: refused, and nothing stays", async () => {
    await withSprite(target(), "broken", async (sprite) => {
      await fs.writeFile(diskOf(sprite.id ?? ""), Buffer.from(Array.from({ length: 50_000 }, (_, index) => (index * 7919) % 251)));
      const { body } = await ask(target(), `/v1/sprites/${sprite.name}/export`);
      const flipped = Buffer.from(body);
      flipped[Math.floor(body.length / 2)] = (flipped[Math.floor(body.length / 2)] ?? 0) ^ 0xff;
      const cuts = [20, 40, 80, 160, 320].map((missing) => body.subarray(0, body.length - missing));
      // Refused at its first record; that it is cut off as well is found out by nobody who still listens.
      const foreign = zlib.zstdCompressSync(randomBytes(300_000)).subarray(0, -5);
      for (const bytes of [flipped, ...cuts, foreign, Buffer.from("not an archive"), Buffer.alloc(0)]) {
        const name = uniqueName("never");
        const answer = await bring(name, bytes);
        expect([answer.status, answer.json()["error"]]).toEqual([400, "archive_invalid"]);
        expect((await ask(target(), `/v1/sprites/${name}`)).status).toBe(404);
      }
      expect((await bring(sprite.name, body)).json()["error"]).toBe("sprite_name_taken");
      expect(await scratch()).toEqual([]);
    });
  });
});
