import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openTestbed, type Testbed } from "./testing/testbed.ts";

let bed: Testbed;
beforeEach(async () => {
  bed = await openTestbed();
});
afterEach(() => bed[Symbol.asyncDispose]());

const create = async (name: string, rest: object = {}) => bed.call("POST", "/v1/sprites", { body: { name, ...rest } });

describe("sprites", () => {
  it("are created with 201 and all fields that clients read", async () => {
    const response = await create("web-1", {
      config: { ram_mb: 512, cpus: 1, storage_gb: 10, region: "iad" },
      environment: { FOO_Bar: "1" },
      labels: ["a", "b", "a"],
      url_settings: { auth: "public" },
    });
    expect(response.status).toBe(201);
    expect(await response.json()).toMatchObject({
      id: expect.any(String),
      name: "web-1",
      organization: "acme",
      org_slug: "acme",
      status: "cold",
      config: { ram_mb: 512, cpus: 1, storage_gb: 10 },
      environment: { FOO_Bar: "1" },
      labels: ["a", "b"],
      url: `http://web-1-acme.localhost:${bed.server.address.port}`,
      url_settings: { auth: "public" },
      created_at: expect.stringMatching(/^\d{4}-.*Z$/),
      last_running_at: null,
      last_warming_at: null,
    });
    expect(await (await bed.call("GET", "/v1/sprites/web-1")).json()).toMatchObject({ name: "web-1" });
  });

  it("[API-10] are created whatever the content type says", async () => {
    expect((await bed.call("POST", "/v1/sprites", { body: { name: "a" }, headers: { "content-type": "text/plain" } })).status).toBe(201);
  });

  it("a name is taken once", async () => {
    await create("a");
    const response = await create("a");
    expect(response.status).toBe(409);
    expect(await response.json()).toMatchObject({ error: "sprite_name_taken" });
  });

  it("are updated in part: 200 with the whole object", async () => {
    await create("a", { labels: ["x"], url_settings: { auth: "sprite" } });
    const first = await bed.call("PUT", "/v1/sprites/a", { body: { url_settings: { auth: "public", private_access: "admins" } } });
    expect(first.status).toBe(200);
    expect(await first.json()).toMatchObject({ labels: ["x"], url_settings: { auth: "public", private_access: "admins" } });
    expect(await (await bed.call("PUT", "/v1/sprites/a", { body: { labels: ["y"] } })).json()).toMatchObject({
      labels: ["y"],
      url_settings: { auth: "public" },
    });
    expect(await (await bed.call("PUT", "/v1/sprites/a", { body: { clear_labels: true } })).json()).toMatchObject({ labels: [] });
    expect(await (await bed.call("PUT", "/v1/sprites/a", { body: { labels: ["z"], clear_labels: true } })).json()).toMatchObject({
      labels: ["z"],
    });
    expect(await (await bed.call("PUT", "/v1/sprites/a", { body: { labels: [] } })).json()).toMatchObject({ labels: [] });
  });

  it("are deleted with 204 and gone after that", async () => {
    await create("a");
    const response = await bed.call("DELETE", "/v1/sprites/a");
    expect([response.status, await response.text()]).toEqual([204, ""]);
    for (const method of ["GET", "DELETE", "PUT"]) {
      const gone = await bed.call(method, "/v1/sprites/a", method === "PUT" ? { body: {} } : {});
      expect([gone.status, await gone.json()]).toEqual([404, { error: "sprite_not_found", message: expect.stringContaining("a") }]);
    }
  });

  it("wake, sleep cold, restart, are checked and upgraded", async () => {
    await create("a");
    expect(await (await bed.call("GET", "/v1/sprites/a/check")).json()).toMatchObject({
      sprite_name: "a",
      status: "hibernated",
      reason: null,
      elapsed: expect.any(Number),
    });
    expect(await (await bed.call("POST", "/v1/sprites/a/wake")).json()).toMatchObject({
      status: "running",
      last_running_at: expect.any(String),
    });
    expect(await (await bed.call("GET", "/v1/sprites/a/check")).json()).toMatchObject({
      status: "healthy",
      checked_at: expect.stringMatching(/Z$/),
    });
    expect(await (await bed.call("POST", "/v1/sprites/a/sleep", { body: { cold: true } })).json()).toMatchObject({ status: "cold" });
    expect(await (await bed.call("POST", "/v1/sprites/a/restart")).json()).toMatchObject({
      sprite_name: "a",
      machine_id: expect.any(String),
      message: expect.any(String),
    });
    const upgrade = await bed.call("POST", "/v1/sprites/a/upgrade");
    expect([upgrade.status, await upgrade.json()]).toEqual([
      200,
      { name: "a", status: "current", message: expect.stringContaining("nothing to upgrade") },
    ]);
  });

  it("[API-4] sleep answers with the sprite that sleeps, whatever its body", async () => {
    await create("a");
    for (const body of [undefined, {}, { cold: false }]) {
      const response = await bed.call("POST", "/v1/sprites/a/sleep", body === undefined ? {} : { body });
      expect([response.status, await response.json()]).toEqual([200, expect.objectContaining({ name: "a" })]);
    }
    expect((await bed.call("POST", "/v1/sprites/none/sleep")).status).toBe(404);
  });

  it("[API-4] a sprite's own idle time is set, changed and given up", async () => {
    const made = await bed.call("POST", "/v1/sprites", { body: { name: "a", config: { idle_seconds: 5 } } });
    expect(made.status).toBe(201);
    for (const idle_seconds of [-1, 1.5, "5"]) {
      expect((await bed.call("PUT", "/v1/sprites/a", { body: { config: { idle_seconds } } })).status).toBe(400);
    }
  });
});

describe("the list", () => {
  interface List {
    sprites: { name: string }[];
    has_more: boolean;
    next_continuation_token: string | null;
    org: object;
    cold: number;
  }
  const list = async (query = ""): Promise<List> => (await bed.call("GET", `/v1/sprites${query}`)).json() as Promise<List>;

  it("[API-13] has 50 to a page, pages on, and both counter styles", async () => {
    for (let i = 0; i < 120; i += 1)
      await bed.sprites.create({
        organizationId: bed.organizations.get("acme").id,
        name: `s${String(i).padStart(3, "0")}`,
        config: {},
        environment: {},
        labels: [],
        urlSettings: {},
        imageName: undefined,
      });
    await bed.call("POST", "/v1/sprites/s000/wake");
    const first = await list();
    expect(first.sprites).toHaveLength(50);
    const counters = { name: "acme", running: 1, warm: 0, cold: 119, running_limit: 0, warm_limit: 0 };
    expect(first).toMatchObject({ ...counters, has_more: true, org: counters });
    const names: string[] = [];
    let token: string | null = "";
    while (token !== null) {
      const page: List = await list(`?max_results=37${token ? `&continuation_token=${encodeURIComponent(token)}` : ""}`);
      names.push(...page.sprites.map(({ name }) => name));
      token = page.next_continuation_token;
      expect(page.has_more).toBe(token !== null);
    }
    expect(names).toEqual(Array.from({ length: 120 }, (_, i) => `s${String(i).padStart(3, "0")}`));
    expect((await list("?max_results=100000")).sprites).toHaveLength(120);
    for (const low of ["0", "-5"]) expect((await list(`?max_results=${low}`)).sprites).toHaveLength(1);
    expect((await list("?prefix=s01")).sprites).toHaveLength(10);
  });

  it("entries of bulk_load are small and have what every client reads", async () => {
    await create("a", { environment: { SECRET: "1" } });
    const { sprites } = await list("?bulk_load=true");
    expect(sprites[0]).toMatchObject({
      name: "a",
      org_slug: "acme",
      status: "cold",
      created_at: expect.any(String),
      updated_at: expect.any(String),
    });
    expect(sprites[0]).not.toHaveProperty("environment");
  });

  it("a HEAD has the status and no body", async () => {
    const response = await bed.call("HEAD", "/v1/sprites", { headers: { accept: "application/x-ndjson" } });
    expect([response.status, await response.text()]).toEqual([200, ""]);
    expect(response.headers.get("sprite-version")).toBe("1.0.0");
  });
});

describe("the live list", () => {
  interface Line {
    type: string;
    name?: string;
    status?: string;
    org: { running: number };
  }

  async function watch(query = "", accept = "application/x-ndjson") {
    const ender = new AbortController();
    const response = await fetch(`${bed.server.url}/v1/sprites${query}`, {
      headers: { authorization: `Bearer ${bed.token}`, accept },
      signal: ender.signal,
    });
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    const next = async (): Promise<Line> => {
      while (!text.includes("\n")) {
        const { value, done } = await reader.read();
        if (done) throw new Error("the stream ended");
        text += value;
      }
      const at = text.indexOf("\n");
      const line = JSON.parse(text.slice(0, at)) as Line;
      text = text.slice(at + 1);
      return line;
    };
    return { response, next, end: () => ender.abort() };
  }

  it("[API-14] streams every sprite, then each change", async () => {
    await create("a");
    await create("b");
    const listenersBefore = bed.sprites.listeners;
    const { response, next, end } = await watch();
    expect(response.headers.get("content-type")).toBe("application/x-ndjson");
    expect([await next(), await next()].map(({ type, name }) => [type, name])).toEqual([
      ["sprite", "a"],
      ["sprite", "b"],
    ]);
    await bed.call("POST", "/v1/sprites/a/wake");
    expect(await next()).toMatchObject({ type: "sprite", name: "a", status: "running", org: { name: "acme", running: 1, cold: 1 } });
    await bed.call("DELETE", "/v1/sprites/b");
    expect(await next()).toMatchObject({ type: "deleted", name: "b" });
    end();
    await expect.poll(() => bed.sprites.listeners).toBe(listenersBefore);
  });

  it("[API-14] is only what an explicit Accept asks for", async () => {
    const { response, end } = await watch("", "*/*");
    expect(response.headers.get("content-type")).toBe("application/json");
    end();
  });

  it("[API-14] shows life when nothing happens, also without any sprite", async () => {
    await bed[Symbol.asyncDispose]();
    bed = await openTestbed({ timings: { keepAliveMs: 30 } });
    const { next, end } = await watch();
    expect((await next()).type).toBe("heartbeat");
    expect((await next()).type).toBe("heartbeat");
    end();
  });

  it("[API-25] ends when the server stops", async () => {
    const { next } = await watch();
    await next();
    const startedMs = performance.now();
    await bed.server.close({ drainMs: 5_000 });
    await expect(next()).rejects.toThrow("the stream ended");
    expect(performance.now() - startedMs).toBeLessThan(2_000);
  });
});
