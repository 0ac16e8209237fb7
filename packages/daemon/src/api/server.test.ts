import fs from "node:fs";
import path from "node:path";
import { silentLogger } from "@sprited/base";
import { ENDPOINTS } from "@sprited/protocol/api";
import { ERRORS } from "@sprited/protocol/errors";
import { afterEach, describe, expect, it } from "vitest";
import { ERROR_MAP } from "./error-map.ts";
import { startApiServer } from "./index.ts";
import { ExecSocketClient, refusal } from "./testing/exec-socket-client.ts";
import { openTestbed, type Testbed } from "./testing/testbed.ts";

let bed: Testbed | undefined;
afterEach(async () => {
  await bed?.[Symbol.asyncDispose]();
  bed = undefined;
});

describe("the server", () => {
  it("[API-5] is 503 until it is ready, and says why", async () => {
    bed = await openTestbed({ state: "starting" });
    const early = await bed.call("GET", "/healthz", { token: null });
    expect([early.status, await early.json()]).toEqual([503, expect.objectContaining({ error: "not_ready" })]);
    expect(early.headers.get("retry-after")).toBe("2");
    expect((await bed.call("GET", "/v1/sprites")).status).toBe(503);
    expect((await refusal(bed, "/v1/sprites/a/exec?cmd=echo")).status).toBe(503);
    expect((await bed.call("GET", "/openapi.json", { token: null })).status).toBe(200);
    bed.server.markReady();
    const ready = await bed.call("GET", "/healthz", { token: null });
    expect([ready.status, await ready.json()]).toEqual([200, { status: "ready", version: "0.0.0-test" }]);
  });

  it("a busy port is an error of its own that names it", async () => {
    bed = await openTestbed();
    const { features } = bed;
    const again = startApiServer({
      listen: bed.server.address,
      features,
      logger: silentLogger,
      version: "1",
      spriteDomain: "localhost",
    });
    await expect(again).rejects.toThrow(
      expect.objectContaining({ code: "port_busy", message: expect.stringContaining(String(bed.server.address.port)) }),
    );
  });

  it("an address of another host is an error of its own", async () => {
    bed = await openTestbed();
    const { features } = bed;
    const there = startApiServer({
      listen: { host: "192.0.2.1", port: 0 },
      features,
      logger: silentLogger,
      version: "1",
      spriteDomain: "localhost",
    });
    await expect(there).rejects.toThrow(expect.objectContaining({ code: "address_unavailable" }));
  });

  it("[API-25] closes exec sockets with 1012 and leaves their commands running", async () => {
    bed = await openTestbed();
    await bed.call("POST", "/v1/sprites", { body: { name: "box" } });
    const client = await ExecSocketClient.open(bed, "cmd=sleep");
    const startedMs = performance.now();
    await bed.server.close({ drainMs: 5_000 });
    expect(performance.now() - startedMs).toBeLessThan(2_000);
    await client.closed();
    expect(client.closeCode).toBe(1012);
    const [session] = bed.exec.sessions.values();
    await expect.poll(() => session?.clients).toBe(0);
    expect([session?.end, session?.signals]).toEqual([undefined, []]);
  });

  it("[API-25] lets a request in flight end", async () => {
    bed = await openTestbed();
    await bed.call("POST", "/v1/sprites", { body: { name: "box" } });
    bed.exec.startDelayMs = 200;
    const answer = bed.call("POST", "/v1/sprites/box/exec?cmd=echo&cmd=hi");
    await expect.poll(() => bed?.sprites.counts(bed.organizations.get("acme").id).running).toBe(1);
    await bed.server.close({ drainMs: 5_000 });
    expect(await (await answer).text()).toBe("\u0001hi\n\u0003\0");
    await expect(bed.call("GET", "/healthz")).rejects.toThrow();
  });

  it("[API-24] serves the document of its own endpoints", async () => {
    bed = await openTestbed();
    const document = (await (await bed.call("GET", "/openapi.json", { token: null })).json()) as { paths: object; servers: unknown };
    expect(Object.keys(document.paths).sort()).toEqual([...new Set(Object.values(ENDPOINTS).map(({ path }) => path))].sort());
    expect(document.servers).toEqual([{ url: bed.server.url }]);
  });
});

describe("errors", () => {
  it("[API-26] registry and docs/errors.md list the same codes with the same facts", () => {
    const text = fs.readFileSync(path.join(import.meta.dirname, "../../../../docs/errors.md"), "utf8");
    const documented = [...text.matchAll(/^\| `([a-z_]+)` \| (\d+) \| (\w+) \| (.+) \|$/gm)].map(([, code, status, retry, hint]) => [
      code,
      { status: Number(status), retry, hint },
    ]);
    expect(Object.fromEntries(documented)).toEqual(ERRORS);
    expect(documented).toHaveLength(Object.keys(ERRORS).length);
  });

  it("every fact of the lower parts has a public code", () => {
    for (const code of Object.values(ERROR_MAP)) expect(ERRORS).toHaveProperty(code);
  });
});
