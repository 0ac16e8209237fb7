import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readPrometheusText, valueOf } from "../metrics/testing/prometheus-text.ts";
import { openTestbed, type Testbed } from "./testing/testbed.ts";

let bed: Testbed;
beforeEach(async () => {
  bed = await openTestbed();
});
afterEach(() => bed[Symbol.asyncDispose]());

const scrape = async () => await bed.call("GET", "/metrics", { token: bed.adminToken });
const read = async () => readPrometheusText(await (await scrape()).text());

describe("GET /metrics", () => {
  it("[METR-1] is Prometheus' text format, for admin tokens only", async () => {
    const answer = await scrape();
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "text/plain; version=0.0.4; charset=utf-8"]);
    expect(valueOf(readPrometheusText(await answer.text()), "sprited_build_info", { version: "0.0.0-test" })).toBe(1);
    for (const [token, status, code] of [
      [null, 401, "unauthorized"],
      [bed.token, 403, "forbidden"],
      ["made/up", 401, "unauthorized"],
    ] as const) {
      const refused = await bed.call("GET", "/metrics", { token });
      expect([refused.status, ((await refused.json()) as { error: string }).error]).toEqual([status, code]);
    }
  });

  it("[METR-2] [METR-6] counts requests by route, and names no sprite, path or token, however many there were", async () => {
    const ask = async (name: string): Promise<void> => {
      await bed.call("GET", `/v1/sprites/${name}`);
      await bed.call("GET", `/v1/${name}`);
      await bed.call("GET", `/v1/sprites/${name}`, { token: `made/up/${name}` });
      await bed.call("PATCH", `/v1/sprites/${name}`);
    };
    await ask("first-name");
    await scrape();
    const before = (await (await scrape()).text()).split("\n").length;
    for (let count = 0; count < 20; count += 1) await ask(`other-name-${count}`);
    const text = await (await scrape()).text();
    expect(text.split("\n")).toHaveLength(before);
    expect(text).not.toMatch(/-name|made\/up/);
    const families = readPrometheusText(text);
    const route = "/v1/sprites/{name}";
    expect(valueOf(families, "sprited_http_requests_total", { method: "GET", route, status: "404" })).toBe(21);
    expect(valueOf(families, "sprited_http_requests_total", { method: "GET", route, status: "401" })).toBe(21);
    expect(valueOf(families, "sprited_http_requests_total", { method: "GET", route: "unmatched", status: "404" })).toBe(21);
    expect(valueOf(families, "sprited_http_requests_total", { method: "other", route: "unmatched", status: "405" })).toBe(21);
    expect(valueOf(families, "sprited_http_request_seconds_count", { method: "GET", route })).toBe(42);
    expect(valueOf(families, "sprited_http_errors_total", { code: "sprite_not_found" })).toBe(21);
  });

  it("[METR-4] is no work for sprites: none is asked, and a second daemon of the process starts at nothing", async () => {
    await bed.call("POST", "/v1/sprites", { body: { name: "mine" } });
    await using other = await openTestbed();
    const answer = await other.call("GET", "/metrics", { token: other.adminToken });
    expect(readPrometheusText(await answer.text()).get("sprited_http_requests_total")?.samples).toEqual([]);
    expect(valueOf(await read(), "sprited_http_requests_total", { method: "POST", route: "/v1/sprites", status: "201" })).toBe(1);
  });
});
