import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { silentLogger, waitFor } from "@sprited/base";
import { afterEach, expect, test } from "vitest";
import { type JobRecord, jobRecords, openDatabase } from "../store/index.ts";
import { Webhooks } from "./webhooks.ts";

const WAIT = { timeoutMs: 30_000, everyMs: 5 };

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function receiver(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  const server: Server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

function endedJob(id: string, url: string): JobRecord {
  return {
    id,
    organizationId: "o",
    spriteId: "s",
    spriteName: "box",
    state: "exited",
    reason: undefined,
    argv: ["true"],
    dir: undefined,
    timeoutMs: undefined,
    timingOutAtMs: undefined,
    idempotencyKey: undefined,
    requestHash: "",
    createdAtMs: 1,
    startedAtMs: 1,
    endedAtMs: 2,
    exitCode: 0,
    signal: undefined,
    stdoutBytes: 0,
    stderrBytes: 0,
    webhook: { url, secret: undefined, state: "pending", attempts: 0, status: undefined, error: undefined, nextAtMs: 0 },
  };
}

/** A sender whose attempts outlast every test unless they are answered. */
function senderOver(jobs: readonly JobRecord[], attemptMs = 3_600_000) {
  const database = openDatabase(":memory:");
  const records = jobRecords(database);
  for (const job of jobs) records.insert(job, undefined);
  const webhooks = new Webhooks({ records, nowMs: Date.now, logger: silentLogger, allowPrivate: true, attemptMs, onSettled: () => {} });
  closers.push(async () => {
    await webhooks.close();
    database.close();
  });
  return { webhooks, stateOf: (id: string) => records.find("s", id)?.webhook };
}

test("[JOB-19] receivers that never answer delay nobody else, however many ends they are to hear of", async () => {
  let held = 0;
  const silent = await receiver(() => void (held += 1));
  const heard: string[] = [];
  const good = await receiver((request, response) => {
    heard.push(String(request.headers["x-sprited-job"]));
    response.end();
  });
  const stuck = Array.from({ length: 200 }, (_, at) => endedJob(`stuck-${at}`, silent));
  const told = Array.from({ length: 20 }, (_, at) => endedJob(`told-${at}`, good));
  const { webhooks, stateOf } = senderOver([...stuck, ...told]);
  webhooks.wake();
  await waitFor("the good receiver's calls", WAIT, () => told.every(({ id }) => stateOf(id)?.state === "delivered"));
  expect(heard.toSorted()).toEqual(told.map(({ id }) => id).toSorted());
  expect(stuck.every(({ id }) => stateOf(id)?.attempts === 0)).toBe(true);
  expect(held).toBeLessThanOrEqual(4);
});

test("[JOB-19] an attempt ends by its own deadline and is repeated after a pause of its own; its place goes to the next", async () => {
  const silent = await receiver(() => {});
  const jobs = Array.from({ length: 6 }, (_, at) => endedJob(`job-${at}`, silent));
  const { webhooks, stateOf } = senderOver(jobs, 200);
  webhooks.wake();
  await waitFor("an attempt for each", WAIT, () => jobs.every(({ id }) => (stateOf(id)?.attempts ?? 0) >= 1));
  for (const { id } of jobs) expect(stateOf(id)).toMatchObject({ state: "pending", error: "no answer within 0.2 s" });
});
