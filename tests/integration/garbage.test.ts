/** `POST /v1/gc`: what it names, what it spares, what it removes. */
import fs from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { execRaw } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { openSimulated } from "../kit/simulated.ts";

test("garbage is named with its reason and size, removed on request; what is referred to or young stays", async () => {
  await using target = await openSimulated();
  await ask(target, "/v1/sprites", { method: "POST", json: { name: "kept" } });
  expect((await execRaw(target, "kept", { cmd: ["echo", "hi"] })).code).toBe(0);
  const { layout } = target;
  const orphan = path.join(layout.sprites, "0198-orphan");
  const young = path.join(layout.sprites, "0198-young");
  const template = path.join(layout.templates, "0198-template");
  for (const directory of [orphan, young, template]) {
    await fs.mkdir(directory, { recursive: true });
    await fs.writeFile(path.join(directory, "disk.raw"), Buffer.alloc(64 * 1024));
  }
  const gc = async (json: object) => (await ask(target, "/v1/gc", { method: "POST", json })).json();
  expect(await gc({ dry_run: true })).toEqual({ removed: false, items: [], bytes: 0 });
  const later = { nowMs: Date.now() + 2 * 3_600_000 };
  // The simulated image lies where no real one does.
  const found = (await target.features.garbage.run({ dryRun: true, ...later })).filter((item) => !item.path.startsWith("pool/images/"));
  expect(found.map((item) => item.path).sort()).toEqual(
    ["pool/sprites/0198-orphan", "pool/sprites/0198-young", "pool/templates/0198-template"].sort(),
  );
  expect(found.every((item) => item.reason === "nothing refers to it" && item.bytes >= 64 * 1024)).toBe(true);
  await expect(fs.stat(orphan)).resolves.toBeDefined();
  await target.features.garbage.run({ dryRun: false, ...later });
  await expect(fs.stat(orphan)).rejects.toMatchObject({ code: "ENOENT" });
  expect((await execRaw(target, "kept", { cmd: ["echo", "still here"] })).stdout.toString()).toBe("still here\n");
});
