/** What an organization may have, through the API over the simulated VMM. */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { execRaw, RefusedError } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

describe("quotas of an organization", () => {
  let target: SimulatedTarget;
  const call = async (method: string, path: string, json?: unknown) => await ask(target, `/v1${path}`, { method, json });
  const setQuota = async (quota: object) => await call("PUT", `/organizations/${target.organization}/quota`, quota);

  beforeAll(async () => {
    target = await openSimulated();
    await call("POST", "/sprites", { name: "one" });
  });
  afterAll(async () => await target[Symbol.asyncDispose]());

  test("no limit is null, and setting one leaves the others", async () => {
    expect((await call("GET", `/organizations/${target.organization}/quota`)).json()).toEqual({
      sprites: null,
      running: null,
      disk_gb: null,
      checkpoints: null,
    });
    expect((await setQuota({ sprites: 2, running: 1 })).json()).toEqual({ sprites: 2, running: 1, disk_gb: null, checkpoints: null });
    expect((await call("GET", "/organization")).json()["organization"]).toMatchObject({ max_sprites: 2, active_sprite_limit: 1 });
    expect((await setQuota({ sprites: -1 })).json()["error"]).toBe("body_invalid");
  });

  test("one sprite too many is refused with the numbers, and nothing is left of it", async () => {
    expect((await call("POST", "/sprites", { name: "two" })).status).toBe(201);
    const refused = await call("POST", "/sprites", { name: "three" });
    expect([refused.status, refused.json()]).toEqual([
      429,
      expect.objectContaining({ error: "sprite_limit_exceeded", limit: 2, current_count: 2 }),
    ]);
    expect((await call("GET", "/sprites/three")).status).toBe(404);
  });

  test("one running sprite too many is refused; after the other sleeps it runs", async () => {
    expect((await execRaw(target, "one", { cmd: ["true"] })).code).toBe(0);
    await expect(execRaw(target, "two", { cmd: ["true"] })).rejects.toSatisfy(
      (error) =>
        error instanceof RefusedError && error.status === 429 && JSON.stringify(error).includes("concurrent_sprite_limit_exceeded"),
    );
    expect((await call("POST", "/sprites/one/sleep", {})).status).toBe(200);
    expect((await execRaw(target, "two", { cmd: ["true"] })).code).toBe(0);
  });

  test("checkpoints and disk are counted", async () => {
    await setQuota({ checkpoints: 1 });
    const text = async () => (await call("POST", "/sprites/two/checkpoint", {})).text;
    expect(await text()).toContain('"complete"');
    expect(await text()).toContain("checkpoint_limit_exceeded");
    await setQuota({ sprites: 10, disk_gb: 0 });
    expect((await call("POST", "/sprites", { name: "three" })).json()["error"]).toBe("disk_limit_exceeded");
    await setQuota({ disk_gb: null });
    expect((await call("POST", "/sprites", { name: "three" })).status).toBe(201);
  });
});
