/** Every call of the official client on sprites themselves. */
import { APIError, type Sprite } from "@fly/sprites";
import { waitFor } from "@sprited/base";
import { describe, expect, test } from "vitest";
import { ask } from "../kit/http.ts";
import { sdkOf, type Target, uniqueName, withSprite } from "../kit/target.ts";

/** The `APIError` that `work` must end with. */
export async function apiErrorOf(work: Promise<unknown>): Promise<APIError> {
  const outcome = await work.then(
    (value) => new Error(`no error, but ${String(JSON.stringify(value)).slice(0, 200)}`),
    (error: unknown) => error,
  );
  expect(outcome).toBeInstanceOf(APIError);
  return outcome as APIError;
}

export function spriteCalls(target: () => Target): void {
  describe("create", () => {
    test("a name alone gives a whole sprite object", async () => {
      const name = uniqueName("create");
      const sprite = await sdkOf(target()).createSprite(name);
      try {
        expect(sprite.name).toBe(name);
        expect(sprite.id).toMatch(/^[0-9a-f-]{36}$/);
        expect(sprite.status).toBe("cold");
        expect(sprite.organizationName).toBe(target().organization);
        expect(sprite.labels).toEqual([]);
        expect(sprite.url).toMatch(new RegExp(`^https?://${name}[.-]`));
        expect(sprite.urlSettings).toEqual({ auth: "sprite", privateAccess: undefined });
        expect(sprite.createdAt?.getTime()).toBeGreaterThan(Date.now() - 120_000);
        expect(sprite.config?.cpus).toBeGreaterThanOrEqual(1);
        expect(sprite.config?.ramMB).toBeGreaterThanOrEqual(128);
        expect(sprite.config?.storageGB).toBeGreaterThanOrEqual(1);
      } finally {
        await sprite.delete();
      }
    });

    test("all options at once come back", async () => {
      const client = sdkOf(target());
      const name = uniqueName("options");
      const sprite = await client.createSprite(name, {
        config: { cpus: 1, ramMB: 512, storageGB: 7, region: "fra" },
        environment: { camelCase: "kept", UPPER: "a=b c" },
        labels: ["one", "zwei"],
        urlSettings: { auth: "public" },
        waitForCapacity: true,
        runtime: "dev",
      });
      try {
        const got = await client.getSprite(name);
        for (const view of [sprite, got]) {
          expect(view.config).toMatchObject({ cpus: 1, ramMB: 512, storageGB: 7 });
          expect(view.environment).toEqual({ camelCase: "kept", UPPER: "a=b c" });
          expect(view.labels).toEqual(["one", "zwei"]);
          expect(view.urlSettings?.auth).toBe("public");
        }
        expect(got.id).toBe(sprite.id);
      } finally {
        await sprite.delete();
      }
    });

    test("a second argument without option keys is the config", async () => {
      const sprite = await sdkOf(target()).createSprite(uniqueName("config"), { cpus: 1, ramMB: 512 });
      try {
        expect(sprite.config).toMatchObject({ cpus: 1, ramMB: 512 });
      } finally {
        await sprite.delete();
      }
    });

    test("a taken name is an APIError 409 with code and words", async () => {
      await withSprite(target(), "taken", async (sprite) => {
        const error = await apiErrorOf(sdkOf(target()).createSprite(sprite.name));
        expect(error.statusCode).toBe(409);
        expect(error.errorCode).toBe("sprite_name_taken");
        expect(error.message).toContain(sprite.name);
      });
    });
  });

  describe("get and delete", () => {
    test("created, listed, deleted, gone", async () => {
      const client = sdkOf(target());
      const sprite = await client.createSprite(uniqueName("gone"));
      expect((await client.listAllSprites()).map(({ name }) => name)).toContain(sprite.name);
      await client.deleteSprite(sprite.name);
      expect((await apiErrorOf(client.getSprite(sprite.name))).statusCode).toBe(404);
      expect((await client.listAllSprites()).map(({ name }) => name)).not.toContain(sprite.name);
      expect((await apiErrorOf(client.deleteSprite(sprite.name))).errorCode).toBe("sprite_not_found");
    });

    test("destroy() is delete, and the name is free again", async () => {
      const client = sdkOf(target());
      const sprite = await client.createSprite(uniqueName("again"));
      await sprite.destroy();
      const second = await client.createSprite(sprite.name);
      expect(second.id).not.toBe(sprite.id);
      await second.destroy();
    });
  });

  describe("list", () => {
    test("prefix, pages, all pages, counters", async () => {
      const client = sdkOf(target());
      const prefix = uniqueName("list");
      const sprites = await Promise.all(["a", "b", "c", "d", "e"].map((end) => client.createSprite(`${prefix}-${end}`)));
      try {
        const first = await client.listSprites({ prefix, maxResults: 2 });
        expect(first.sprites.map(({ name }) => name)).toEqual([`${prefix}-a`, `${prefix}-b`]);
        expect(first.hasMore).toBe(true);
        const second = await client.listSprites({ prefix, maxResults: 2, continuationToken: first.nextContinuationToken ?? "" });
        const third = await client.listSprites({ prefix, maxResults: 2, continuationToken: second.nextContinuationToken ?? "" });
        expect([...second.sprites, ...third.sprites].map(({ name }) => name)).toEqual(["c", "d", "e"].map((end) => `${prefix}-${end}`));
        expect(third.hasMore).toBe(false);
        expect(first.organizationName).toBe(target().organization);
        expect(first.cold).toBeGreaterThanOrEqual(5);
        expect(first.running).toBeGreaterThanOrEqual(0);
        expect(first.warm).toBeGreaterThanOrEqual(0);
        expect(first.runningLimit).toBeTypeOf("number");
        expect(first.warmLimit).toBeTypeOf("number");
        expect((await client.listAllSprites(prefix)).map(({ name }) => name)).toEqual(sprites.map(({ name }) => name));
        const bulk = await client.listSprites({ prefix, bulkLoad: true });
        expect(bulk.sprites.map(({ name }) => name)).toEqual(sprites.map(({ name }) => name));
        expect((await client.listSprites({ prefix: `${prefix}-nothing` })).sprites).toEqual([]);
      } finally {
        await Promise.all(sprites.map((sprite) => sprite.delete()));
      }
    });

    test("listAll walks more than one page of 50", async () => {
      const client = sdkOf(target());
      const prefix = uniqueName("many");
      const names = Array.from({ length: 61 }, (_, index) => `${prefix}-${String(index).padStart(2, "0")}`);
      await inBatches(names, 8, (name) => client.createSprite(name));
      try {
        expect((await client.listAllSprites(prefix)).map(({ name }) => name)).toEqual(names);
      } finally {
        await inBatches(names, 8, (name) => client.deleteSprite(name));
      }
    });

    test("both counter styles are on the wire", async () => {
      const answer = (await ask(target(), "/v1/sprites?max_results=1")).json();
      const counters = {
        running: expect.any(Number),
        warm: expect.any(Number),
        cold: expect.any(Number),
        running_limit: expect.any(Number),
        warm_limit: expect.any(Number),
      };
      expect(answer).toMatchObject({ name: target().organization, ...counters, org: { name: target().organization, ...counters } });
    });
  });

  describe("watch", () => {
    test("creations and changes arrive as events with the organization's counters", async () => {
      const client = sdkOf(target());
      const prefix = uniqueName("watch");
      const stream = await client.watchSprites({ prefix });
      const seen: { name?: string | undefined; organization: { name?: string | undefined } }[] = [];
      const reading = stream.processAll(async (event) => {
        seen.push(event);
      });
      let sprite: Sprite | undefined;
      try {
        sprite = await client.createSprite(`${prefix}-a`);
        await waitFor("an event of the new sprite", { timeoutMs: 30_000 }, () => seen.some(({ name }) => name === `${prefix}-a`));
        expect(seen.find(({ name }) => name === `${prefix}-a`)).toMatchObject({
          status: "cold",
          timestamp: expect.any(Date),
          organization: { name: target().organization, cold: expect.any(Number), running: expect.any(Number) },
        });
      } finally {
        await sprite?.delete();
        stream.close();
        await reading;
      }
    });
  });

  describe("update", () => {
    test("labels and URL settings change alone and together; the rest stays", async () => {
      const client = sdkOf(target());
      const sprite = await client.createSprite(uniqueName("update"), { labels: ["old"], environment: { KEEP: "1" } });
      try {
        const labelled = await sprite.update({ labels: ["new", "more"] });
        expect(labelled.labels).toEqual(["new", "more"]);
        expect(labelled.urlSettings?.auth).toBe("sprite");
        await client.updateURLSettings(sprite.name, { auth: "public" });
        await sprite.updateURLSettings({ auth: "public", privateAccess: "org_users" });
        const both = await client.getSprite(sprite.name);
        expect(both.urlSettings).toEqual({ auth: "public", privateAccess: "org_users" });
        expect(both.labels).toEqual(["new", "more"]);
        expect(both.environment).toEqual({ KEEP: "1" });
        expect((await client.updateSprite(sprite.name, { labels: [] })).labels).toEqual([]);
      } finally {
        await sprite.delete();
      }
    });

    test("clear_labels, as Go sends it, empties them", async () => {
      await withSprite(target(), "clear", async (sprite) => {
        await sprite.update({ labels: ["x"] });
        const answer = await ask(target(), `/v1/sprites/${sprite.name}`, { method: "PUT", json: { clear_labels: true } });
        expect(answer.status).toBe(200);
        expect(answer.json()["labels"]).toEqual([]);
      });
    });
  });

  describe("restart, check, upgrade", () => {
    test("check of a sleeping sprite says hibernated and does not wake it", async () => {
      await withSprite(target(), "check", async (sprite) => {
        const check = await sprite.check();
        expect(check).toMatchObject({ spriteName: sprite.name, spriteId: sprite.id, status: "hibernated" });
        expect(check.checkedAt.getTime()).not.toBeNaN();
        expect((await sdkOf(target()).getSprite(sprite.name)).status).toBe("cold");
      });
    });

    test("restart gives another machine and a healthy sprite", async () => {
      await withSprite(target(), "restart", async (sprite) => {
        const first = await sprite.restart();
        expect(first.spriteName).toBe(sprite.name);
        expect((await sprite.check()).status).toBe("healthy");
        expect((await sdkOf(target()).getSprite(sprite.name)).status).toBe("running");
        const second = await sprite.restart();
        expect(second.machineId).not.toBe(first.machineId);
        expect(second.message).toBeTypeOf("string");
      });
    });

    test("upgrade is accepted", async () => {
      await withSprite(target(), "upgrade", async (sprite) => {
        await sprite.upgrade();
        expect((await apiErrorOf(sdkOf(target()).upgradeSprite(uniqueName("nobody")))).statusCode).toBe(404);
      });
    });
  });
}

async function inBatches<T>(items: readonly T[], size: number, work: (item: T) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < items.length; at += size) await Promise.all(items.slice(at, at + size).map(work));
}
