/** What a restarted daemon makes of jobs: the same store, another exec. */
import { silentLogger, waitFor } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import { afterEach, expect, test } from "vitest";
import type { ExecRequest, ExecSession, SessionEnd } from "../exec/exec.ts";
import type { SpriteView } from "../sprite/sprite.ts";
import { type Database, jobRecords, openDatabase } from "../store/index.ts";
import { type JobOptions, Jobs, type JobSettings } from "./jobs.ts";
import type { JobRequest } from "./request.ts";

const SETTINGS: JobSettings = { retentionMs: undefined, keptPerSprite: 100, webhookPrivate: false };

/** A session whose end, input and signals the test decides and sees. */
class FakeSession {
  readonly spriteId = "sprite-1";
  readonly createdAtMs = 1000;
  endedAtMs: number | undefined;
  end: SessionEnd | undefined;
  outputOffsets = { stdout: 0, stderr: 0 };
  readonly inputCount = { accepted: 0, taken: 0 };
  readonly inputKnown = Promise.resolve();
  readonly input: Uint8Array[] = [];
  readonly signals: string[] = [];
  inputEnded = false;
  readonly #ended = Promise.withResolvers<SessionEnd>();
  readonly ended = this.#ended.promise;
  readonly #listeners = new Set<() => void>();
  readonly id: string;

  constructor(id: string) {
    this.id = id;
  }

  finish(end: SessionEnd, atMs = 5000): void {
    this.end = end;
    this.endedAtMs = atMs;
    this.#ended.resolve(end);
  }

  take(bytes: number): void {
    this.inputCount.taken = bytes;
    for (const listener of this.#listeners) listener();
  }

  inputOf(): { accepted: number; taken: number } {
    return this.inputCount;
  }

  onInputTaken(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  attach() {
    return {
      write: async (data: Uint8Array): Promise<void> => void this.input.push(data),
      endInput: (): void => void (this.inputEnded = true),
      close: (): void => {},
    };
  }

  signal(name: string): void {
    this.signals.push(name);
  }
}

class World {
  readonly database: Database = openDatabase(":memory:");
  readonly sessions = new Map<string, FakeSession>();
  /** Requests that reached exec. */
  readonly asked: ExecRequest[] = [];
  nowMs = 2000;
  spriteExists = true;
  /** What a start does after it was asked. */
  onStart: (request: ExecRequest) => Promise<FakeSession> = async (request) => {
    const session = new FakeSession(request.id ?? "");
    this.sessions.set(session.id, session);
    return session;
  };
  readonly #daemons: Jobs[] = [];
  #announce: (view: SpriteView, change: "changed" | "deleted") => void = () => {};

  /** A daemon over the same store; the one before is as good as killed. */
  async daemon(settings: Partial<JobSettings> = {}): Promise<Jobs> {
    await Promise.all(this.#daemons.splice(0).map((jobs) => jobs.close()));
    const view = { id: "sprite-1", name: "box" } as SpriteView;
    const options: JobOptions = {
      records: jobRecords(this.database),
      sprites: {
        get: () => {
          if (!this.spriteExists) throw new ApiError("sprite_not_found", "sprite not found");
          return view;
        },
        subscribe: (listener) => {
          this.#announce = listener;
          return () => {};
        },
      },
      exec: {
        start: async (_organization, _sprite, request) => {
          this.asked.push(request);
          return (await this.onStart(request)) as unknown as ExecSession;
        },
        find: (_organization, _sprite, id) => this.sessions.get(id) as unknown as ExecSession | undefined,
        forget: async (_sprite, id) => void this.sessions.delete(id),
      },
      settings: { ...SETTINGS, ...settings },
      nowMs: () => this.nowMs,
      logger: silentLogger,
    };
    const jobs = new Jobs(options);
    this.#daemons.push(jobs);
    await jobs.recover();
    return jobs;
  }

  deleteSprite(): void {
    this.spriteExists = false;
    this.#announce({ id: "sprite-1", name: "box" } as SpriteView, "deleted");
  }

  async close(): Promise<void> {
    await Promise.all(this.#daemons.map((jobs) => jobs.close()));
    this.database.close();
  }
}

let world: World;
afterEach(() => world.close());

function request(change: Partial<JobRequest> = {}): JobRequest {
  return {
    argv: ["make"],
    env: { SECRET: "in-the-environment" },
    dir: undefined,
    stdin: undefined,
    timeoutMs: undefined,
    idempotencyKey: undefined,
    webhook: undefined,
    ...change,
  };
}

const never = new Promise<never>(() => {});
const exit = (code: number): SessionEnd => ({ kind: "exit", exit: { code, signal: null } });

test("[JOB-1] the row is there before exec is asked, without the environment", async () => {
  world = new World();
  const jobs = await world.daemon();
  world.onStart = async ({ id = "" }) => {
    expect(jobRecords(world.database).find("sprite-1", id)).toMatchObject({ state: "starting", argv: ["make"] });
    const session = new FakeSession(id);
    world.sessions.set(id, session);
    return session;
  };
  await jobs.start("o", "box", request());
  expect(JSON.stringify(world.database.all(world.database.query.selectFrom("jobs").selectAll()))).not.toContain("in-the-environment");
});

test("[JOB-9] killed before exec knew the command: lost, it did not run, and it is never asked for again", async () => {
  world = new World();
  const jobs = await world.daemon();
  world.onStart = () => never;
  void jobs.start("o", "box", request({ idempotencyKey: "k" }));
  await waitFor("the start", { timeoutMs: 2000 }, () => world.asked.length === 1);
  const next = await world.daemon();
  const { job, created } = await next.start("o", "box", request({ idempotencyKey: "k" }));
  expect([created, job.state, job.reason]).toEqual([false, "lost", "the server stopped before the command was started; it did not run"]);
  expect(world.asked).toHaveLength(1);
});

test("[JOB-9] killed after exec knew the command: it runs on and its end is heard", async () => {
  world = new World();
  const jobs = await world.daemon();
  world.onStart = async ({ id = "" }) => {
    world.sessions.set(id, new FakeSession(id));
    return await never;
  };
  void jobs.start("o", "box", request());
  await waitFor("the start", { timeoutMs: 2000 }, () => world.asked.length === 1);
  const [id = ""] = world.sessions.keys();
  const next = await world.daemon();
  expect(next.get("o", "box", id)).toMatchObject({ state: "running", startedAtMs: 1000 });
  const waiting = next.wait("o", "box", id, { timeoutMs: 5000, signal: new AbortController().signal });
  world.sessions.get(id)?.finish(exit(4));
  expect(await waiting).toMatchObject({ state: "exited", exitCode: 4, endedAtMs: 5000 });
});

test("[JOB-9] a command that ended while no daemon ran has its outcome; one whose session is gone is lost", async () => {
  world = new World();
  const jobs = await world.daemon();
  const one = (await jobs.start("o", "box", request())).job.id;
  const other = (await jobs.start("o", "box", request())).job.id;
  await jobs.close();
  world.sessions.get(one)?.finish(exit(0), 1500);
  world.sessions.delete(other);
  const next = await world.daemon();
  await waitFor("the outcome", { timeoutMs: 2000 }, () => next.get("o", "box", one).state === "exited");
  expect(next.get("o", "box", one)).toMatchObject({ exitCode: 0, endedAtMs: 1500 });
  expect(next.get("o", "box", other)).toMatchObject({ state: "lost", reason: "its session is gone" });
});

test("[JOB-4] input goes on after a restart where the command's input had got to", async () => {
  world = new World();
  const jobs = await world.daemon();
  const { id } = (await jobs.start("o", "box", request({ stdin: Buffer.from("0123456789") }))).job;
  const session = world.sessions.get(id);
  await waitFor("the input", { timeoutMs: 2000 }, () => session?.inputEnded);
  expect(Buffer.concat(session?.input ?? []).toString()).toBe("0123456789");
  if (session) Object.assign(session, { inputCount: { accepted: 4, taken: 0 }, inputEnded: false, input: [] });
  await world.daemon();
  await waitFor("the rest of the input", { timeoutMs: 2000 }, () => session?.inputEnded);
  expect(Buffer.concat(session?.input ?? []).toString()).toBe("456789");
  expect(jobRecords(world.database).input(id)).toBeDefined();
  session?.take(10);
  await waitFor("the input to be dropped", { timeoutMs: 2000 }, () => jobRecords(world.database).input(id) === undefined);
});

test("[JOB-6] the deadline counts from the stored start: time without a daemon is not given back", async () => {
  world = new World();
  const jobs = await world.daemon();
  const { id } = (await jobs.start("o", "box", request({ timeoutMs: 60_000 }))).job;
  expect(world.sessions.get(id)?.signals).toEqual([]);
  world.nowMs = 1000 + 60_001;
  const next = await world.daemon();
  expect(world.sessions.get(id)?.signals).toEqual(["TERM"]);
  expect(jobRecords(world.database).find("sprite-1", id)?.timingOutAtMs).toBe(61_001);
  await next.close();
  world.nowMs += 10_000;
  const last = await world.daemon();
  expect(world.sessions.get(id)?.signals).toEqual(["TERM", "KILL"]);
  world.sessions.get(id)?.finish({ kind: "exit", exit: { code: null, signal: "KILL" } });
  await waitFor("the end", { timeoutMs: 2000 }, () => last.get("o", "box", id).state === "timed_out");
  expect(last.get("o", "box", id)).toMatchObject({ signal: "KILL", reason: "it did not end within 60 s" });
});

test("[JOB-18] a deleted sprite's job is kept until its webhook was told", async () => {
  world = new World();
  const jobs = await world.daemon();
  const webhook = { url: "http://webhook.invalid/", secret: undefined };
  const { id } = (await jobs.start("o", "box", request({ webhook }))).job;
  await jobs.start("o", "box", request());
  world.deleteSprite();
  const rows = jobRecords(world.database).ofSprite("sprite-1");
  expect(rows).toMatchObject([{ id, state: "lost", reason: "the sprite was deleted", webhook: { state: "pending" } }]);
});

test("[JOB-17] ended jobs go after their time, running ones stay", async () => {
  world = new World();
  const jobs = await world.daemon({ retentionMs: 1000 });
  const old = (await jobs.start("o", "box", request())).job.id;
  const running = (await jobs.start("o", "box", request())).job.id;
  world.sessions.get(old)?.finish(exit(0), 2000);
  await waitFor("the end", { timeoutMs: 2000 }, () => jobs.get("o", "box", old).state === "exited");
  world.nowMs = 3001;
  await jobs.sweep();
  expect(
    jobRecords(world.database)
      .ofSprite("sprite-1")
      .map(({ id }) => id),
  ).toEqual([running]);
  expect(world.sessions.has(old)).toBe(false);
});

test("[JOB-3] a second request under a key waits for the first one's start; where that left no job it starts its own", async () => {
  world = new World();
  const jobs = await world.daemon();
  const gate = Promise.withResolvers<void>();
  const starts = world.onStart;
  world.onStart = async () => {
    world.onStart = starts;
    await gate.promise;
    throw new ApiError("vm_failed_to_start", "the machine did not start");
  };
  const first = jobs.start("o", "box", request({ idempotencyKey: "k" }));
  const second = jobs.start("o", "box", request({ idempotencyKey: "k" }));
  const refused = expect(first).rejects.toMatchObject({ code: "vm_failed_to_start" });
  gate.resolve();
  await refused;
  expect(await second).toMatchObject({ created: true, job: { state: "running" } });
  expect(jobRecords(world.database).ofSprite("sprite-1")).toHaveLength(1);
});
