/**
 * `examples/army` as a user runs it, at a smaller size: PostgreSQL, an API and a web front end in
 * one prepared sprite, a template with their memory, a pool, and two soldiers who must not see
 * each other.
 */
import path from "node:path";
import { run } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { ask } from "../kit/http.ts";
import { vmSkipReason } from "../kit/preflight.ts";

/** PostgreSQL, two Node servers and the tests of three VMs under emulation, ms. */
const ARMY_TIMEOUT_MS = 900_000;
const IMAGE = "default";
const SCRIPT = path.resolve(import.meta.dirname, "..", "..", "examples", "army", "army.mjs");

vi.setConfig({ testTimeout: ARMY_TIMEOUT_MS, hookTimeout: 300_000 });

describe.skipIf(vmSkipReason(IMAGE) !== undefined)("the army", () => {
  let daemon: DaemonProcess;

  beforeAll(async () => {
    daemon = await DaemonProcess.open({ image: IMAGE, environment: { SPRITED_SPRITE_MEMORY_MB: "1024" } });
  });
  afterAll(async () => await daemon[Symbol.asyncDispose]());

  test("two claimed copies of a full stack change their own data and code, pass their own tests, and nobody sees another", async () => {
    const { stdout } = await run(process.execPath, [SCRIPT, "--count", "2"], {
      timeoutMs: ARMY_TIMEOUT_MS,
      env: { SPRITES_API_URL: daemon.baseUrl, SPRITE_TOKEN: daemon.token },
    });
    expect(stdout).toContain("2 of 2 passed; 2 host names, 2 machine ids; the prepared sprite still has 1000 orders");
    expect((await ask(daemon, "/v1/sprites")).json()["sprites"]).toEqual([]);
    expect((await ask(daemon, "/v1/templates")).json()["templates"]).toEqual([]);
  });
});
