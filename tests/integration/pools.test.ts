/** Templates and pools through the API, over the simulated VMM with real agents. */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { execRaw } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";
import { sdkOf } from "../kit/target.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

describe("templates and pools", () => {
  let target: SimulatedTarget;
  const call = async (method: string, path: string, json?: unknown) => await ask(target, `/v1${path}`, { method, json });
  const pool = async (name: string) => (await call("GET", `/pools/${name}`)).json() as { ready: number; filling: number; claimed: number };

  beforeAll(async () => {
    target = await openSimulated();
    expect((await call("POST", "/sprites", { name: "base", environment: { SECRET: "of the source" } })).status).toBe(201);
    expect((await execRaw(target, "base", { cmd: ["true"] })).code).toBe(0);
  });
  afterAll(async () => await target[Symbol.asyncDispose]());

  test("[TPL-1] [TPL-4] [TPL-6] [TPL-8] a template gets versions; create takes the current one or a named one", async () => {
    const first = await call("POST", "/templates", { name: "web", sprite: "base", environment: { STAGE: "one" }, labels: ["web"] });
    expect([first.status, first.json()]).toEqual([201, expect.objectContaining({ name: "web", current_version: 1 })]);
    const second = await call("POST", "/templates", { name: "web", sprite: "base", environment: { STAGE: "two" } });
    expect(second.json()).toMatchObject({ current_version: 2, versions: [{ version: 2 }, { version: 1 }] });
    const now = await call("POST", "/sprites", { name: "now", template: "web" });
    expect(now.json()).toMatchObject({ name: "now", environment: { STAGE: "two" } });
    const before = await call("POST", "/sprites", { name: "before", template: "web@1", labels: ["mine"], environment: { STAGE: "own" } });
    expect(before.json()).toMatchObject({ labels: ["web", "mine"], environment: { STAGE: "own" } });
    expect((await execRaw(target, "before", { cmd: ["sh", "-c", 'echo "$STAGE$SECRET"'] })).stdout.toString()).toBe("own\n");
    expect((await call("POST", "/templates/web/promote", { version: 1 })).json()).toMatchObject({ current_version: 1 });
    expect((await call("POST", "/sprites", { name: "nobody", template: "web@9" })).json()["error"]).toBe("template_not_found");
    for (const name of ["now", "before"]) expect((await call("DELETE", `/sprites/${name}`)).status).toBe(204);
  });

  test("[POOL-1] [POOL-3] a pool fills with sprites that nobody sees", async () => {
    const made = await call("POST", "/pools", { name: "p", template: "web", min: 2, max: 3, setup: ["sh", "-c", "exit 0"] });
    expect([made.status, made.json()]).toEqual([
      201,
      expect.objectContaining({ name: "p", template_version: 1, min: 2, ready: 0, filling: 2 }),
    ]);
    await expect.poll(async () => (await pool("p")).ready, { timeout: 30_000 }).toBe(2);
    expect((await call("GET", "/sprites")).json()["sprites"]).toMatchObject([{ name: "base" }]);
    expect((await call("DELETE", "/templates/web")).json()["error"]).toBe("template_in_use");
  });

  test("[POOL-15] a claimed sprite is as old as its claim, also for the next daemon", async () => {
    const beforeMs = Date.now();
    const claimed = (await call("POST", "/pools/p/claim", { name: "aged" })).json() as { created_at: string };
    expect(Date.parse(claimed.created_at)).toBeGreaterThanOrEqual(beforeMs);
    expect(Date.parse(claimed.created_at)).toBeLessThanOrEqual(Date.now());
    await target.restart();
    expect((await call("GET", "/sprites/aged")).json()["created_at"]).toBe(claimed.created_at);
    expect((await call("DELETE", "/sprites/aged")).status).toBe(204);
    await expect.poll(async () => (await pool("p")).ready, { timeout: 30_000 }).toBe(2);
  });

  test("[POOL-4] [POOL-6] a claimed sprite has its name, labels and environment, and works", async () => {
    const body = { name: "mine", labels: ["army"], environment: { AGENT: "7" }, idempotency_key: "k1" };
    const claimed = await call("POST", "/pools/p/claim", body);
    expect([claimed.status, claimed.json()]).toEqual([
      201,
      expect.objectContaining({ name: "mine", status: "warm", labels: ["web", "army"] }),
    ]);
    expect((await call("POST", "/pools/p/claim", body)).json()["id"]).toBe(claimed.json()["id"]);
    expect((await call("POST", "/pools/p/claim", { ...body, name: "other" })).json()["error"]).toBe("idempotency_key_reused");
    const { stdout } = await execRaw(target, "mine", { cmd: ["sh", "-c", 'echo "$STAGE $AGENT"'] });
    expect(stdout.toString()).toBe("one 7\n");
    expect((await call("POST", "/pools/p/claim", { name: "mine" })).json()["error"]).toBe("sprite_name_taken");
    expect((await pool("p")).claimed).toBe(2);
  });

  test("[POOL-14] the official client claims by a label", async () => {
    const sprite = await sdkOf(target).createSprite("by-label", { labels: ["pool:p"], environment: { AGENT: "8" } });
    expect(sprite.labels).toEqual(["web", "pool:p"]);
    const { stdout } = await sprite.execFile("sh", ["-c", "echo $AGENT"]);
    expect(stdout).toBe("8\n");
  });

  test("[POOL-7] ten patient claims at once all get a sprite of their own; an impatient one is told to come back", async () => {
    await call("PUT", "/pools/p", { min: 0, max: 3 });
    const claims = await Promise.all(
      Array.from({ length: 10 }, async (_, index) => await call("POST", "/pools/p/claim", { name: `c${index}`, wait_for_capacity: true })),
    );
    expect(claims.map(({ status }) => status)).toEqual(Array.from({ length: 10 }, () => 201));
    expect(new Set(claims.map((answer) => answer.json()["id"])).size).toBe(10);
    await call("PUT", "/pools/p", { min: 0, max: 1, setup: ["sh", "-c", "echo no luck >&2; exit 3"] });
    for (;;) {
      const answer = await call("POST", "/pools/p/claim", {});
      if (answer.status === 201) continue;
      expect([answer.status, answer.json()["error"], Number(answer.headers["retry-after"])]).toEqual([
        503,
        "pool_empty",
        expect.any(Number),
      ]);
      break;
    }
  });

  test("[POOL-12] [TPL-9] pool and template go; claimed sprites stay", async () => {
    expect((await call("DELETE", "/pools/p")).status).toBe(204);
    expect((await call("DELETE", "/templates/web")).status).toBe(204);
    const names = ((await call("GET", "/sprites")).json()["sprites"] as { name: string }[]).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["base", "by-label", "c0", "c9", "mine"]));
    expect((await execRaw(target, "c3", { cmd: ["echo", "well"] })).stdout.toString()).toBe("well\n");
  });
});
