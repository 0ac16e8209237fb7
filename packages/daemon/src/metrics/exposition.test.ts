/** What `/metrics` tells of events and levels, over sources that a test plays. */
import { Listeners } from "@sprited/base";
import { describe, expect, test } from "vitest";
import type { PoolEvent, PoolView } from "../pool/index.ts";
import type { MachineEvent } from "../sprite/index.ts";
import { Metrics, type MetricSources, type ServedRequest } from "./index.ts";
import { type MetricFamily, readPrometheusText, valueOf } from "./testing/prometheus-text.ts";

const PROGRAM = { version: '1.0 "x"' };

function opened() {
  const machineEvents = new Listeners<[MachineEvent]>();
  const ends = new Listeners<[{ state: string }]>();
  const events = new Listeners<[PoolEvent]>();
  const present = { states: [] as ReturnType<MetricSources["sprites"]["states"]>, pools: [] as PoolView[], jobs: 0 };
  const owners: ("session" | "job" | "proxy")[] = [];
  const metrics = new Metrics({
    sprites: { states: () => present.states, machineEvents },
    exec: { open: () => owners.map((owner) => ({ owner })) },
    jobs: {
      get openCount() {
        return present.jobs;
      },
      ends,
    },
    pools: { all: () => present.pools, events },
  });
  const read = async (): Promise<Map<string, MetricFamily>> => readPrometheusText(await metrics.text(PROGRAM));
  return { metrics, machineEvents, ends, events, present, owners, read };
}

function poolView(name: string, change: Partial<PoolView> = {}): PoolView {
  const counts = { empty: 2, refused: 1, filled: 9, failed: 4, aged: 3, rolled: 5 };
  return { name, organizationSlug: "acme", ready: 1, filling: 2, aim: 3, waiting: 6, claimed: 7, counts, ...change } as PoolView;
}

const request = (change: Partial<ServedRequest>): ServedRequest => ({
  method: "GET",
  route: "/v1/sprites/{name}",
  status: 200,
  durationMs: 12,
  code: undefined,
  ...change,
});

/** How long the answer is, in series. */
const seriesOf = (families: Map<string, MetricFamily>): number =>
  [...families.values()].reduce((sum, { samples }) => sum + samples.length, 0);

describe("metrics", () => {
  test("[METR-1] are of the format from the first answer on, with all names and zeros for what has not happened", async () => {
    const { read } = opened();
    const families = await read();
    expect([...families.keys()]).toEqual(expect.arrayContaining(["sprited_build_info", "sprited_sprites", "sprited_pool_claim_seconds"]));
    expect(valueOf(families, "sprited_build_info", PROGRAM)).toBe(1);
    expect(valueOf(families, "sprited_wake_seconds_count", { from: "hibernated" })).toBe(0);
    expect(valueOf(families, "sprited_jobs_ended_total", { state: "lost" })).toBe(0);
    expect(valueOf(families, "process_resident_memory_bytes")).toBeGreaterThan(1e6);
    expect(valueOf(families, "process_cpu_seconds_total")).toBeGreaterThan(0);
    expect(valueOf(families, "process_start_time_seconds")).toBeLessThanOrEqual(Date.now() / 1000);
  });

  test("[METR-5] count wakes by what they came back from, failures, sleeps and lost memories", async () => {
    const { machineEvents, read } = opened();
    machineEvents.tell({ kind: "woken", wake: "paused", durationMs: 4 });
    machineEvents.tell({ kind: "woken", wake: "paused", durationMs: 2_000 });
    machineEvents.tell({ kind: "wake_failed", wake: "cold" });
    machineEvents.tell({ kind: "slept", depth: "hibernated" });
    machineEvents.tell({ kind: "memory_lost" });
    const families = await read();
    expect(valueOf(families, "sprited_wake_seconds_count", { from: "paused" })).toBe(2);
    expect(valueOf(families, "sprited_wake_seconds_sum", { from: "paused" })).toBe(2.004);
    expect(valueOf(families, "sprited_wake_seconds_bucket", { from: "paused", le: "0.005" })).toBe(1);
    expect(valueOf(families, "sprited_wake_seconds_count", { from: "cold" })).toBe(0);
    expect(valueOf(families, "sprited_wake_failures_total", { from: "cold" })).toBe(1);
    expect(valueOf(families, "sprited_sleeps_total", { depth: "hibernated" })).toBe(1);
    expect(valueOf(families, "sprited_memories_lost_total")).toBe(1);
  });

  test("[METR-2] tell levels as they are now; a state that nobody is in any more is gone", async () => {
    const { present, owners, ends, read } = opened();
    present.states = [
      { state: "running", isSpare: false },
      { state: "running", isSpare: false },
      { state: "hibernated", isSpare: true },
    ];
    owners.push("session", "session", "proxy");
    present.jobs = 3;
    ends.tell({ state: "timed_out" });
    const before = await read();
    expect(valueOf(before, "sprited_sprites", { state: "running" })).toBe(2);
    expect(valueOf(before, "sprited_sprites", { state: "hibernated" })).toBeUndefined();
    expect(valueOf(before, "sprited_spares", { state: "hibernated" })).toBe(1);
    expect([valueOf(before, "sprited_sessions_open", { owner: "session" }), valueOf(before, "sprited_jobs_open")]).toEqual([2, 3]);
    expect(valueOf(before, "sprited_jobs_ended_total", { state: "timed_out" })).toBe(1);
    present.states = [{ state: "paused", isSpare: false }];
    owners.length = 0;
    const after = await read();
    expect(valueOf(after, "sprited_sprites", { state: "running" })).toBeUndefined();
    expect(valueOf(after, "sprited_sprites", { state: "paused" })).toBe(1);
    expect(valueOf(after, "sprited_sessions_open", { owner: "session" })).toBe(0);
  });

  test("[METR-3] tell a pool's own counts, and nothing of a pool that is gone", async () => {
    const { present, events, read } = opened();
    const empty = seriesOf(await read());
    present.pools = [poolView("p"), poolView("p", { organizationSlug: "other" })];
    const organizationSlug = "acme";
    events.tell({ kind: "claimed", organizationSlug, pool: "p", durationMs: 30 });
    events.tell({ kind: "filled", organizationSlug, pool: "p", durationMs: 12_000 });
    const families = await read();
    const of = { organization: "acme", pool: "p" };
    const value = (name: string, labels: Record<string, string> = {}) => valueOf(families, `sprited_pool_${name}`, { ...of, ...labels });
    expect([value("spares", { state: "ready" }), value("spares", { state: "filling" }), value("aim"), value("claims_waiting")]).toEqual([
      1, 2, 3, 6,
    ]);
    expect([value("claims_total", { outcome: "served" }), value("claims_total", { outcome: "refused" })]).toEqual([7, 1]);
    expect([value("claims_empty_total"), value("fills_total", { outcome: "ok" }), value("fills_total", { outcome: "failed" })]).toEqual([
      2, 9, 4,
    ]);
    expect([value("spares_retired_total", { reason: "aged" }), value("spares_retired_total", { reason: "rolled" })]).toEqual([3, 5]);
    expect([value("claim_seconds_sum"), value("fill_seconds_sum")]).toEqual([0.03, 12]);
    present.pools = [];
    events.tell({ kind: "deleted", organizationSlug, pool: "p" });
    expect(seriesOf(await read())).toBe(empty);
  });

  test("[METR-2] [METR-6] requests have labels of closed sets, whatever clients send", async () => {
    const { metrics, read } = opened();
    for (const method of ["GET", "POST", "BREW", "get\n"]) metrics.requestServed(request({ method }));
    metrics.requestServed(request({ route: undefined, status: 404, code: "not_found" }));
    metrics.requestServed(request({ status: undefined, code: "internal" }));
    const first = await read();
    const route = "/v1/sprites/{name}";
    expect(valueOf(first, "sprited_http_requests_total", { method: "other", route, status: "200" })).toBe(2);
    expect(valueOf(first, "sprited_http_requests_total", { method: "GET", route: "unmatched", status: "404" })).toBe(1);
    expect(valueOf(first, "sprited_http_requests_total", { method: "GET", route, status: "499" })).toBe(1);
    expect(valueOf(first, "sprited_http_request_seconds_count", { method: "GET", route })).toBe(2);
    expect(valueOf(first, "sprited_http_errors_total", { code: "not_found" })).toBe(1);
    expect(valueOf(first, "sprited_http_errors_total", { code: "internal" })).toBeUndefined();
    const before = seriesOf(first);
    for (let count = 0; count < 500; count += 1) metrics.requestServed(request({ method: `M${count}`, durationMs: count }));
    expect(seriesOf(await read())).toBe(before);
  });

  test("[METR-4] two daemons of one process share no number", async () => {
    const [one, other] = [opened(), opened()];
    one.metrics.requestServed(request({}));
    one.machineEvents.tell({ kind: "memory_lost" });
    const families = await other.read();
    expect(valueOf(families, "sprited_memories_lost_total")).toBe(0);
    expect(families.get("sprited_http_requests_total")?.samples).toEqual([]);
    expect(valueOf(await one.read(), "sprited_memories_lost_total")).toBe(1);
  });
});
