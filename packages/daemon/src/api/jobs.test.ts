import http from "node:http";
import type { AddressInfo } from "node:net";
import { createHmac } from "node:crypto";
import { waitFor } from "@sprited/base";
import type { JobObject } from "@sprited/protocol/api";
import { afterEach, expect, test } from "vitest";
import { openTestbed, type Testbed } from "./testing/testbed.ts";

const PATH = "/v1/sprites/box/jobs";
let bed: Testbed | undefined;

async function open(options: Parameters<typeof openTestbed>[0] = {}): Promise<Testbed> {
  bed = await openTestbed(options);
  expect((await bed.call("POST", "/v1/sprites", { body: { name: "box" } })).status).toBe(201);
  return bed;
}

afterEach(async () => {
  await bed?.[Symbol.asyncDispose]();
  bed = undefined;
});

async function start(one: Testbed, body: Record<string, unknown>, status = 201): Promise<JobObject> {
  const answer = await one.call("POST", PATH, { body });
  expect(answer.status, await answer.clone().text()).toBe(status);
  return (await answer.json()) as JobObject;
}

async function job(one: Testbed, id: string, rest = ""): Promise<JobObject> {
  return (await (await one.call("GET", `${PATH}/${id}${rest}`)).json()) as JobObject;
}

const waited = (one: Testbed, id: string): Promise<JobObject> => job(one, id, "/wait?timeout=5s");

test("[JOB-5] a job is answered at once as running and ends with its code and byte counts", async () => {
  const one = await open();
  const started = await start(one, { cmd: ["both"], dir: "/srv", env: { A: "1" } });
  expect(started).toMatchObject({ id: expect.stringMatching(/^[0-9]+$/), state: "running", cmd: ["both"], dir: "/srv", exit_code: null });
  expect(await waited(one, started.id)).toMatchObject({ state: "exited", exit_code: 3, signal: null, stdout_bytes: 4, stderr_bytes: 4 });
});

test("[JOB-5] a signal ends a job as signaled; an ended one takes none", async () => {
  const one = await open();
  const { id } = await start(one, { cmd: ["sleep"] });
  expect((await one.call("POST", `${PATH}/${id}/signal`, { body: { signal: "SIGUSR1" } })).status).toBe(200);
  expect(await waited(one, id)).toMatchObject({ state: "signaled", exit_code: null, signal: "USR1" });
  const late = await one.call("POST", `${PATH}/${id}/signal`, { body: { signal: "TERM" } });
  expect([late.status, ((await late.json()) as { error: string }).error]).toEqual([410, "job_ended"]);
});

test("[JOB-4] input is given as text or bytes, then closed", async () => {
  const one = await open();
  const text = await start(one, { cmd: ["cat"], stdin: "grüße" });
  const bytes = await start(one, { cmd: ["cat"], stdin_base64: Buffer.from([0, 255, 10]).toString("base64") });
  await waited(one, text.id);
  await waited(one, bytes.id);
  expect(await (await one.call("GET", `${PATH}/${text.id}/log`)).text()).toBe("grüße");
  expect(Buffer.from(await (await one.call("GET", `${PATH}/${bytes.id}/log?stream=stdout`)).arrayBuffer())).toEqual(
    Buffer.from([0, 255, 10]),
  );
});

test("[JOB-6] a job whose time is up is timed_out", async () => {
  const one = await open();
  const { id } = await start(one, { cmd: ["sleep"], timeout_seconds: 0.05 });
  expect(await waited(one, id)).toMatchObject({
    state: "timed_out",
    signal: "TERM",
    reason: "it did not end within 0.05 s",
    timeout_seconds: 0.05,
  });
});

test("[JOB-7] a job whose machine is gone is lost with the reason", async () => {
  const one = await open();
  const { id } = await start(one, { cmd: ["lose"] });
  expect(await waited(one, id)).toMatchObject({ state: "lost", exit_code: null, reason: "the sprite's VM ended while the command ran" });
});

test("[JOB-10] the log is raw bytes by stream and offset", async () => {
  const one = await open();
  const { id } = await start(one, { cmd: ["both"] });
  await waited(one, id);
  const read = async (query: string): Promise<[string, string | null]> => {
    const answer = await one.call("GET", `${PATH}/${id}/log?${query}`);
    return [await answer.text(), answer.headers.get("x-log-offset")];
  };
  expect(await read("stream=stdout&offset=1")).toEqual(["ut\n", "1"]);
  expect(await read("stream=stderr")).toEqual(["err\n", "0"]);
  expect(await read("stream=all&offset=2&follow=true")).toEqual(["t\nerr\n", "2"]);
  expect(await read("offset=8")).toEqual(["", "8"]);
});

test("[JOB-11] following a log ends with the job", async () => {
  const one = await open();
  const { id } = await start(one, { cmd: ["sleep"] });
  const answer = await one.call("GET", `${PATH}/${id}/log?follow=true`);
  expect(answer.headers.get("x-log-offset")).toBe("0");
  const text = answer.text();
  await one.call("POST", `${PATH}/${id}/signal`, { body: { signal: "TERM" } });
  expect(await text).toBe("");
});

test("[JOB-12] a wait that is too short answers with the job as it is", async () => {
  const one = await open();
  const { id } = await start(one, { cmd: ["sleep"] });
  expect(await job(one, id, "/wait?timeout=20ms")).toMatchObject({ state: "running", ended_at: null });
});

test("[JOB-3] the same key gives the same job, another request under it is refused", async () => {
  const one = await open();
  const body = { cmd: ["echo", "a"], env: { A: "1", B: "2" }, idempotency_key: "k" };
  const [first, second] = await Promise.all([start(one, body), one.call("POST", PATH, { body })]);
  expect(second.status).toBe(200);
  expect(((await second.json()) as JobObject).id).toBe(first.id);
  expect((await start(one, { ...body, env: { B: "2", A: "1" } }, 200)).id).toBe(first.id);
  const refused = (await start(one, { ...body, cmd: ["echo", "b"] }, 409)) as unknown as { error: string; job_id: string };
  expect(refused).toMatchObject({ error: "idempotency_key_reused", job_id: first.id });
  expect(one.exec.sessions.size).toBe(1);
});

test("[JOB-2] a start that failed before the guest leaves no job; one that may have run stays as lost", async () => {
  const one = await open();
  const { ApiError } = await import("@sprited/protocol/errors");
  one.exec.nextError = new ApiError("vm_failed_to_start", "the machine did not start");
  await start(one, { cmd: ["echo"], idempotency_key: "k" }, 503);
  one.exec.nextError = new ApiError("guest_unresponsive", "the agent does not answer");
  const failed = (await start(one, { cmd: ["echo"], idempotency_key: "k" }, 504)) as unknown as { job_id: string };
  expect(await job(one, failed.job_id)).toMatchObject({
    state: "lost",
    reason: expect.stringContaining("not known whether the command was started"),
  });
  const { jobs } = (await (await one.call("GET", PATH)).json()) as { jobs: JobObject[] };
  expect(jobs.map(({ id }) => id)).toEqual([failed.job_id]);
});

test("lists are newest first, by state, in pages", async () => {
  const one = await open();
  const ids: string[] = [];
  for (let index = 0; index < 5; index++) ids.push((await start(one, { cmd: ["exit", "0"] })).id);
  const running = await start(one, { cmd: ["sleep"] });
  for (const id of ids) await waited(one, id);
  const page = async (query: string) =>
    (await (await one.call("GET", `${PATH}?${query}`)).json()) as { jobs: JobObject[]; has_more: boolean; next_continuation_token: string };
  expect((await page("state=running")).jobs.map(({ id }) => id)).toEqual([running.id]);
  const seen: string[] = [];
  for (let query = "state=exited&max_results=2"; ;) {
    const { jobs, has_more, next_continuation_token } = await page(query);
    seen.push(...jobs.map(({ id }) => id));
    if (!has_more) break;
    query = `state=exited&max_results=2&continuation_token=${next_continuation_token}`;
  }
  expect(seen.toSorted()).toEqual(ids.toSorted());
  expect((await one.call("GET", `${PATH}?continuation_token=nonsense`)).status).toBe(400);
});

test("[JOB-18] deleting a job frees its session; deleting the sprite leaves no job", async () => {
  const one = await open();
  const { id } = await start(one, { cmd: ["sleep"] });
  expect((await one.call("DELETE", `${PATH}/${id}`)).status).toBe(204);
  expect(one.exec.sessions.size).toBe(0);
  expect((await one.call("GET", `${PATH}/${id}`)).status).toBe(404);
  await start(one, { cmd: ["sleep"] });
  await one.call("DELETE", "/v1/sprites/box");
  await one.call("POST", "/v1/sprites", { body: { name: "box" } });
  expect(((await (await one.call("GET", PATH)).json()) as { jobs: unknown[] }).jobs).toEqual([]);
});

test("[JOB-17] the oldest ended jobs beyond what is kept go", async () => {
  const one = await open({ jobs: { keptPerSprite: 2 } });
  for (let index = 0; index < 4; index++) await waited(one, (await start(one, { cmd: ["exit", "0"] })).id);
  await (one.features.jobs as unknown as { sweep(): Promise<void> }).sweep();
  expect(((await (await one.call("GET", PATH)).json()) as { jobs: unknown[] }).jobs).toHaveLength(2);
  expect(one.exec.sessions.size).toBe(2);
});

test("[JOB-15] webhooks to addresses that are not public are refused", async () => {
  const one = await open();
  for (const url of [
    "http://127.0.0.1:1/",
    "http://[::1]/",
    "http://10.0.0.1/",
    "http://localhost/x",
    "http://[::ffff:10.0.0.1]/",
    "http://169.254.169.254/",
    "ftp://example.com",
    "https://me:pw@example.com/",
    "nonsense",
  ]) {
    expect(await start(one, { cmd: ["echo"], webhook: { url } }, 400), url).toMatchObject({ error: "webhook_refused" });
  }
});

test("[JOB-13] [JOB-14] [JOB-16] a webhook hears of the end, signed, again after a failure", async () => {
  const one = await open({ jobs: { webhookPrivate: true } });
  const heard: { headers: http.IncomingHttpHeaders; body: string }[] = [];
  const server = http.createServer(async (request, response) => {
    const body = (await request.toArray()).join("");
    heard.push({ headers: request.headers, body });
    response.writeHead(heard.length === 1 ? 500 : 204).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  const { id } = await start(one, { cmd: ["exit", "7"], webhook: { url, secret: "s3cret-of-hook" } });
  await waitFor("the first attempt", { timeoutMs: 5000 }, async () => ((await job(one, id)).webhook?.attempts ?? 0) > 0);
  const failed = await job(one, id);
  expect(failed.webhook).toMatchObject({ state: "pending", attempts: 1, last_status: 500, last_error: "it answered 500" });
  await waitFor("the second attempt", { timeoutMs: 9000, everyMs: 50 }, async () => (await job(one, id)).webhook?.state === "delivered");
  const [, second] = heard;
  const [, seconds, signature] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(second?.headers["x-sprited-signature"])) ?? [];
  expect(createHmac("sha256", "s3cret-of-hook").update(`${seconds}.${second?.body}`).digest("hex")).toBe(signature);
  expect(JSON.parse(second?.body ?? "")).toMatchObject({ type: "job.ended", sprite: "box", job: { id, state: "exited", exit_code: 7 } });
  expect(JSON.stringify([await job(one, id), one.lines])).not.toContain("s3cret-of-hook");
  server.closeAllConnections();
  server.close();
}, 20_000);
