/** What the daemon tells of itself, after real work over the simulated VMM: pools that are drained, wakes, jobs. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { readPrometheusText, valueOf } from "@sprited/daemon";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { execRaw } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

/** For what takes moments, on a machine ten times slower. */
const WAIT = { timeout: 60_000 };

interface PoolMetrics {
  claims_served: number;
  claims_empty: number;
  claims_refused: number;
  claims_waiting: number;
  claim_ms: { p50: number | null; p99: number | null };
  fills: number;
  fills_failed: number;
  fill_seconds: { p50: number | null; last: number | null };
  last_failure: { code: string; at: string } | null;
  spares_aged: number;
  spares_rolled: number;
}

describe("metrics", () => {
  let target: SimulatedTarget;
  let directory: string;
  let gate: string;
  const call = async (method: string, path: string, json?: unknown) => await ask(target, `/v1${path}`, { method, json });
  const pool = async () => (await call("GET", "/pools/p")).json() as { ready: number; filling: number; metrics: PoolMetrics };
  const scrape = async () => readPrometheusText((await ask(target, "/metrics")).text);
  const ofPool = async (name: string, labels: Record<string, string> = {}) =>
    valueOf(await scrape(), `sprited_pool_${name}`, { organization: target.organization, pool: "p", ...labels });

  beforeAll(async () => {
    directory = await mkdtemp(path.join(os.tmpdir(), "metrics-"));
    gate = path.join(directory, "gate");
    target = await openSimulated();
    expect((await call("POST", "/sprites", { name: "base" })).status).toBe(201);
    expect((await execRaw(target, "base", { cmd: ["true"] })).code).toBe(0);
    expect((await call("POST", "/templates", { name: "t", sprite: "base" })).status).toBe(201);
  });
  afterAll(async () => {
    await target[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  test("[POOL-16] [POOL-17] a pool that was drained tells how often it was empty, and how long claims and fillings took", async () => {
    expect((await call("POST", "/pools", { name: "p", template: "t", min: 2, max: 2 })).status).toBe(201);
    expect((await pool()).metrics).toMatchObject({ claims_served: 0, claim_ms: { p50: null, p99: null }, fill_seconds: { last: null } });
    await expect.poll(async () => (await pool()).ready, WAIT).toBe(2);
    // From now on spares are ready when the gate is there.
    expect((await call("PUT", "/pools/p", { setup: ["sh", "-c", `until [ -e ${gate} ]; do sleep 0.1; done`] })).status).toBe(200);
    const key = { name: "c1", idempotency_key: "k" };
    expect((await call("POST", "/pools/p/claim", key)).status).toBe(201);
    expect((await call("POST", "/pools/p/claim", key)).status).toBe(201);
    expect((await call("POST", "/pools/p/claim", { name: "c1" })).json()["error"]).toBe("sprite_name_taken");
    expect((await call("POST", "/pools/p/claim", { name: "c2" })).status).toBe(201);
    expect((await call("POST", "/pools/p/claim", { name: "c3" })).json()["error"]).toBe("pool_empty");
    const { metrics } = await pool();
    expect(metrics).toMatchObject({ claims_served: 2, claims_empty: 1, claims_refused: 2, claims_waiting: 0, fills: 2, fills_failed: 0 });
    expect(metrics.claim_ms.p50).toBeGreaterThan(0);
    expect(metrics.claim_ms.p99).toBeGreaterThanOrEqual(metrics.claim_ms.p50 ?? NaN);
    expect(metrics.fill_seconds.last).toBeGreaterThan(0);
    expect(metrics).toMatchObject({ last_failure: null, spares_aged: 0, spares_rolled: 0 });

    const waiting = call("POST", "/pools/p/claim", { name: "c3", wait_for_capacity: true });
    await expect.poll(async () => (await pool()).metrics.claims_waiting, WAIT).toBe(1);
    expect(await ofPool("claims_waiting")).toBe(1);
    await writeFile(gate, "");
    expect((await waiting).status).toBe(201);
    expect((await pool()).metrics).toMatchObject({ claims_served: 3, claims_empty: 2, claims_refused: 2, claims_waiting: 0 });
  });

  test("[METR-1] [METR-3] the same numbers for Prometheus, with histograms of the durations", async () => {
    await expect.poll(async () => (await pool()).ready, WAIT).toBe(2);
    const { metrics } = await pool();
    expect(await ofPool("claims_total", { outcome: "served" })).toBe(3);
    expect(await ofPool("claims_total", { outcome: "refused" })).toBe(2);
    expect(await ofPool("claims_empty_total")).toBe(2);
    expect(await ofPool("fills_total", { outcome: "ok" })).toBe(metrics.fills);
    expect(await ofPool("spares", { state: "ready" })).toBe(2);
    expect(await ofPool("claim_seconds_count")).toBe(3);
    expect(await ofPool("claim_seconds_sum")).toBeGreaterThan(0);
    expect(await ofPool("fill_seconds_count")).toBe(metrics.fills);
    const families = await scrape();
    expect(valueOf(families, "sprited_spares", { state: "hibernated" })).toBe(2);
    expect(valueOf(families, "sprited_sprites", { state: "hibernated" })).toBe(3);
    expect(valueOf(families, "sprited_http_requests_total", { method: "POST", route: "/v1/pools/{pool}/claim", status: "201" })).toBe(4);
  });

  test("[POOL-16] [METR-3] the next daemon goes on with the pool's counts and begins the rest anew", async () => {
    const before = (await pool()).metrics;
    await target.restart();
    const { metrics } = await pool();
    expect(metrics).toMatchObject({ claims_served: 3, claims_empty: 2, claims_refused: 2, fills: before.fills });
    expect(metrics.claim_ms).toEqual({ p50: null, p99: null });
    expect(await ofPool("claims_total", { outcome: "served" })).toBe(3);
    expect(valueOf(await scrape(), "sprited_http_requests_total", { route: "/v1/pools/{pool}/claim" })).toBeUndefined();
  });

  test("[POOL-16] [POOL-18] failed fillings with their reason, and spares that a new version replaced", async () => {
    expect((await call("POST", "/templates", { name: "t", sprite: "base" })).status).toBe(201);
    await expect.poll(async () => (await pool()).metrics.spares_rolled, WAIT).toBe(2);
    expect((await call("PUT", "/pools/p", { setup: ["sh", "-c", "exit 3"], min: 3, max: 3 })).status).toBe(200);
    await expect.poll(async () => (await pool()).metrics.last_failure?.code, WAIT).toBe("setup_failed");
    const { metrics } = await pool();
    expect(metrics.fills_failed).toBeGreaterThanOrEqual(1);
    expect(await ofPool("fills_total", { outcome: "failed" })).toBeGreaterThanOrEqual(1);
    expect(await ofPool("spares_retired_total", { reason: "rolled" })).toBe(2);
  });

  test("[METR-5] wakes by what a sprite came back from, and sleeps by their depth", async () => {
    const woken = async (from: string) => valueOf(await scrape(), "sprited_wake_seconds_count", { from }) ?? NaN;
    const slept = async (depth: string) => valueOf(await scrape(), "sprited_sleeps_total", { depth }) ?? NaN;
    expect((await execRaw(target, "c1", { cmd: ["true"] })).code).toBe(0);
    // The pool wakes its spares now and then: it must be quiet for exact numbers.
    expect((await call("DELETE", "/pools/p")).status).toBe(204);
    const before = {
      hibernated: await woken("hibernated"),
      cold: await woken("cold"),
      slept: await slept("hibernated"),
      stopped: await slept("cold"),
    };
    expect((await call("POST", "/sprites/c1/sleep")).status).toBe(200);
    expect([await slept("hibernated"), await woken("hibernated")]).toEqual([before.slept + 1, before.hibernated]);
    expect(valueOf(await scrape(), "sprited_sprites", { state: "hibernated" })).toBe(3);
    expect((await execRaw(target, "c1", { cmd: ["true"] })).code).toBe(0);
    expect(await woken("hibernated")).toBe(before.hibernated + 1);
    expect((await call("POST", "/sprites/c1/sleep", { cold: true })).status).toBe(200);
    expect((await execRaw(target, "c1", { cmd: ["true"] })).code).toBe(0);
    expect([await woken("cold"), await slept("cold")]).toEqual([before.cold + 1, before.stopped + 1]);
  });

  test("[METR-2] open sessions and jobs by how they ended", async () => {
    const started = (await call("POST", "/sprites/c1/jobs", { cmd: ["sleep", "600"] })).json() as { id: string };
    const open = async (owner: string) => valueOf(await scrape(), "sprited_sessions_open", { owner });
    expect([await open("job"), valueOf(await scrape(), "sprited_jobs_open")]).toEqual([1, 1]);
    expect((await call("POST", `/sprites/c1/jobs/${started.id}/signal`, { signal: "KILL" })).status).toBe(200);
    await expect.poll(async () => valueOf(await scrape(), "sprited_jobs_ended_total", { state: "signaled" }), WAIT).toBe(1);
    await expect.poll(async () => await open("job"), WAIT).toBe(0);
    expect(valueOf(await scrape(), "sprited_jobs_open")).toBe(0);
  });

  test("[METR-2] [METR-4] the answer is as long with more sprites, names none of them, and wakes none", async () => {
    const text = async (): Promise<string> => (await ask(target, "/metrics")).text;
    await call("GET", "/sprites/c2");
    await call("DELETE", "/sprites/c3");
    await call("POST", "/sprites", { name: "many-0" });
    const before = (await text()).split("\n").length;
    for (let index = 1; index < 6; index += 1) {
      expect((await call("POST", "/sprites", { name: `many-${index}` })).status).toBe(201);
      expect((await call("GET", `/sprites/many-${index}`)).status).toBe(200);
    }
    const after = await text();
    expect(after.split("\n")).toHaveLength(before);
    expect(after).not.toMatch(/many-|"c[123]"/);
    expect(valueOf(readPrometheusText(after), "sprited_sprites", { state: "cold" })).toBe(6);
  });
});
