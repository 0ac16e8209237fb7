/** Jobs on the whole daemon with a real agent: over restarts, lost machines, deletes; commands run on this host. */
import { createHmac } from "node:crypto";
import fs from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { waitFor } from "@sprited/base";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ask, type Question } from "../kit/http.ts";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";

type Job = Record<string, unknown> & { id: string; state: string };

let target: SimulatedTarget;
let count = 0;

beforeAll(async () => {
  target = await openSimulated({ jobs: { retentionMs: undefined, keptPerSprite: 50, webhookPrivate: true } });
}, 60_000);
afterAll(() => target[Symbol.asyncDispose]());

async function sprite(): Promise<string> {
  const name = `jobs-${++count}`;
  expect((await ask(target, "/v1/sprites", { method: "POST", json: { name } })).status).toBe(201);
  return name;
}

async function start(name: string, json: Record<string, unknown>, status = 201): Promise<Job> {
  const answer = await ask(target, `/v1/sprites/${name}/jobs`, { method: "POST", json });
  expect(answer.status, answer.text).toBe(status);
  return answer.json() as Job;
}

const at = (name: string, job: Job, rest = "", question: Question = {}) =>
  ask(target, `/v1/sprites/${name}/jobs/${job.id}${rest}`, question);

async function ended(name: string, job: Job): Promise<Job> {
  return (await at(name, job, "/wait?timeout=30s")).json() as Job;
}

test("[JOB-5] [JOB-10] a job runs with its variables, directory and input, and keeps both outputs apart", async () => {
  const name = await sprite();
  const cmd = ["sh", "-c", 'printf "%s %s " "$WHO" "$PWD"; cat; echo problem >&2; exit 7'];
  const job = await start(name, { cmd, env: { WHO: "me" }, dir: "/tmp", stdin: "the input" });
  expect(job).toMatchObject({ state: "running", cmd });
  expect(await ended(name, job)).toMatchObject({ state: "exited", exit_code: 7, stdout_bytes: 17, stderr_bytes: 8, reason: null });
  expect((await at(name, job, "/log?stream=stdout")).text).toBe("me /tmp the input");
  const rest = await at(name, job, "/log?stream=stdout&offset=8");
  expect([rest.text, rest.headers["x-log-offset"]]).toEqual(["the input", "8"]);
  expect((await at(name, job, "/log?stream=stderr")).text).toBe("problem\n");
  expect((await at(name, job, "/log")).body.length).toBe(25);
});

test("[JOB-9] [JOB-11] a job goes on while the daemon is restarted, and its log is whole", async () => {
  const name = await sprite();
  const job = await start(name, { cmd: ["sh", "-c", "for i in $(seq 1 40); do echo line $i; sleep 0.05; done; exit 3"] });
  await waitFor("output", { timeoutMs: 10_000 }, async () => (await at(name, job, "/log")).body.length > 0);
  await target.restart();
  expect((await at(name, job)).json()).toMatchObject({ id: job.id, state: "running" });
  const expected = Array.from({ length: 40 }, (_, index) => `line ${index + 1}\n`).join("");
  expect((await at(name, job, "/log?follow=true&offset=7")).text).toBe(expected.slice(7));
  expect(await ended(name, job)).toMatchObject({ state: "exited", exit_code: 3 });
  await target.restart();
  expect(await ended(name, job)).toMatchObject({ state: "exited", exit_code: 3, stdout_bytes: expected.length });
  expect((await at(name, job, "/log")).text).toBe(expected);
});

test("[JOB-6] a deadline is kept over a restart, also for a command that ignores TERM", async () => {
  const name = await sprite();
  const job = await start(name, { cmd: ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"], timeout_seconds: 0.5 });
  await waitFor("output", { timeoutMs: 10_000 }, async () => (await at(name, job, "/log")).text === "up\n");
  await target.restart();
  expect(await ended(name, job)).toMatchObject({ state: "timed_out", signal: "KILL", reason: "it did not end within 0.5 s" });
}, 40_000);

test("[JOB-8] a job holds its sprite awake until it has ended, also after a restart", async () => {
  const name = await sprite();
  const job = await start(name, { cmd: ["sleep", "100"] });
  const { id } = (await ask(target, `/v1/sprites/${name}`)).json() as { id: string };
  const holders = () => target.features.sprites.activities.holders(id).map(({ kind }) => kind);
  expect(holders()).toEqual(["job"]);
  await target.restart();
  expect(holders()).toEqual(["job"]);
  await at(name, job, "/signal", { method: "POST", json: { signal: "TERM" } });
  await ended(name, job);
  expect(holders()).toEqual([]);
});

test("[JOB-5] signals reach the command", async () => {
  const name = await sprite();
  const job = await start(name, { cmd: ["sleep", "100"] });
  expect((await at(name, job, "/signal", { method: "POST", json: { signal: "SIGINT" } })).status).toBe(200);
  expect(await ended(name, job)).toMatchObject({ state: "signaled", signal: "INT", exit_code: null });
});

test("[JOB-7] a job whose VM dies is lost with the reason, also when it dies while no daemon runs", async () => {
  const name = await sprite();
  const job = await start(name, { cmd: ["sh", "-c", "echo begun; sleep 100"] });
  await waitFor("output", { timeoutMs: 10_000 }, async () => (await at(name, job, "/log")).text === "begun\n");
  for (const machine of target.host.running()) await target.host.crash(machine.spec.incarnation);
  const lost = await ended(name, job);
  expect(lost).toMatchObject({ state: "lost", exit_code: null, reason: expect.stringMatching(/machine/) });
  expect((await at(name, job, "/log")).text).toBe("begun\n");
  expect((await at(name, job, "/signal", { method: "POST", json: { signal: "TERM" } })).status).toBe(410);
});

test("[JOB-3] one key starts one command, also when asked again after a restart", async () => {
  const name = await sprite();
  const mark = path.join(target.layout.root, `mark-${name}`);
  const json = { cmd: ["sh", "-c", `echo once >> ${mark}`], idempotency_key: "build-1" };
  const answers = await Promise.all([start(name, json), ask(target, `/v1/sprites/${name}/jobs`, { method: "POST", json })]);
  expect([answers[1].status, answers[1].json()["id"]]).toEqual([200, answers[0].id]);
  await ended(name, answers[0]);
  await target.restart();
  expect((await start(name, json, 200)).id).toBe(answers[0].id);
  expect(await start(name, { ...json, dir: "/" }, 409)).toMatchObject({ error: "idempotency_key_reused" });
  expect(await fs.readFile(mark, "utf8")).toBe("once\n");
});

test("[JOB-4] input of many pieces arrives whole", async () => {
  const name = await sprite();
  const input = Buffer.alloc(600_000, "0123456789abcde\n");
  const job = await start(name, { cmd: ["sh", "-c", "sleep 0.3; sha256sum; echo done"], stdin_base64: input.toString("base64") });
  const { createHash } = await import("node:crypto");
  await ended(name, job);
  expect((await at(name, job, "/log")).text).toBe(`${createHash("sha256").update(input).digest("hex")}  -\ndone\n`);
});

test("[JOB-18] a deleted job is killed and gone; jobs go with their sprite", async () => {
  const name = await sprite();
  const mark = path.join(target.layout.root, `alive-${name}`);
  const job = await start(name, { cmd: ["sh", "-c", `trap 'echo ended > ${mark}' EXIT; echo up; while :; do sleep 0.1; done`] });
  const killed = await start(name, { cmd: ["sleep", "100"] });
  expect((await at(name, killed, "", { method: "DELETE" })).status).toBe(204);
  expect((await at(name, killed)).status).toBe(404);
  await ask(target, `/v1/sprites/${name}`, { method: "DELETE" });
  expect((await at(name, job)).json()).toMatchObject({ error: "sprite_not_found" });
});

test("[JOB-2] a command that does not exist ends like one that was not found", async () => {
  const name = await sprite();
  const job = await start(name, { cmd: ["no-such-command-here"] });
  expect(await ended(name, job)).toMatchObject({ state: "exited", exit_code: 127 });
});

test("[JOB-13] [JOB-14] a webhook hears of an end that no daemon saw", async () => {
  const heard: { body: string; signature: string }[] = [];
  const server = http.createServer(async (request, response) => {
    heard.push({ body: (await request.toArray()).join(""), signature: String(request.headers["x-sprited-signature"]) });
    response.writeHead(204).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const name = await sprite();
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/ended`;
    const job = await start(name, { cmd: ["sh", "-c", "sleep 0.2; exit 5"], webhook: { url, secret: "hook-secret" } });
    await target.restart();
    await waitFor("the webhook", { timeoutMs: 20_000 }, () => heard.length > 0);
    const [{ body, signature }] = heard as [(typeof heard)[0]];
    expect(JSON.parse(body)).toMatchObject({ type: "job.ended", sprite: name, job: { id: job.id, state: "exited", exit_code: 5 } });
    const [, seconds, hex] = /^t=(\d+),v1=(\w+)$/.exec(signature) ?? [];
    expect(createHmac("sha256", "hook-secret").update(`${seconds}.${body}`).digest("hex")).toBe(hex);
    await waitFor(
      "the record",
      { timeoutMs: 5000 },
      async () => ((await at(name, job)).json()["webhook"] as { state: string }).state === "delivered",
    );
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test("[JOB-10] output that is no longer kept is told by the offset, and the rest is right", async () => {
  const retention = { countMax: 100, ageMsMax: 86_400_000, bytesMax: 64 * 1024 * 1024 };
  await using small = await openSimulated({ exec: { logBytesMax: 1024 * 1024, retention } });
  await ask(small, "/v1/sprites", { method: "POST", json: { name: "small" } });
  const jobs = "/v1/sprites/small/jobs";
  const json = { cmd: ["sh", "-c", "seq -w 1 600000"] };
  const { id } = (await ask(small, jobs, { method: "POST", json })).json() as Job;
  const total = 600_000 * 7;
  expect((await ask(small, `${jobs}/${id}/wait`)).json()).toMatchObject({ state: "exited", stdout_bytes: total });
  const log = await ask(small, `${jobs}/${id}/log?stream=stdout`);
  const from = Number(log.headers["x-log-offset"]);
  expect(from).toBeGreaterThan(total - 3 * 1024 * 1024);
  expect(log.body.length).toBe(total - from);
  const expected = (offset: number): string => `${String(Math.floor(offset / 7) + 1).padStart(6, "0")}\n`.slice(offset % 7);
  expect(log.text.startsWith(expected(from))).toBe(true);
  expect(log.text.endsWith("600000\n")).toBe(true);
  const tail = await ask(small, `${jobs}/${id}/log?stream=all&offset=${total - 14}`);
  expect([tail.text, tail.headers["x-log-offset"]]).toEqual(["599999\n600000\n", String(total - 14)]);
});
