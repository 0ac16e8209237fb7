/** Starts under a key: the command is started once, whatever becomes of those who ask and of the daemon. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { silentLogger } from "@sprited/base";
import { afterEach, expect, test } from "vitest";
import { GuestError, type GuestLink, type SessionEvent, type SessionStream } from "../guest/index.ts";
import { Activities } from "../sprite/activity.ts";
import type { GuestLife } from "../sprite/index.ts";
import { type Database, openDatabase, sessionRecords } from "../store/index.ts";
import type { ExecRequest } from "./exec.ts";
import { Sessions } from "./sessions.ts";

const request = (change: Partial<ExecRequest> = {}): ExecRequest => ({
  work: { kind: "command", argv: ["make"], env: { A: "1" }, dir: undefined, tty: undefined, stdin: true },
  runAfterDisconnectMs: undefined,
  startKey: "key",
  ...change,
});

/** A guest that takes each id once, and daemons over it, one after another on the same store. */
class World {
  readonly database: Database = openDatabase(":memory:");
  /** Ids of commands that were begun. */
  readonly begun: string[] = [];
  /** Commands that the guest still has. */
  readonly held = new Set<string>();
  /** What a start waits for, or fails with, before the guest has it. */
  before: () => Promise<void> = async () => {};
  /** The same after the guest has it. */
  after: () => Promise<void> = async () => {};
  directory = "";
  sessions: Sessions | undefined;

  readonly link = {
    startSession: async (id: string) => {
      await this.before();
      this.begun.push(id);
      this.held.add(id);
      await this.after();
      return silentStream();
    },
    attachSession: async (id: string) => {
      if (!this.held.has(id)) throw new GuestError("guest_session_unknown", "no such session");
      return silentStream();
    },
    deleteSession: async (id: string) => void this.held.delete(id),
    listSessions: async () => [],
  } as unknown as GuestLink;

  readonly life = {
    id: "life",
    isAwake: true,
    ended: new Promise<never>(() => {}),
    link: async () => this.link,
  } as unknown as GuestLife;

  /** Another daemon; the one before is as good as killed. */
  async daemon(): Promise<Sessions> {
    await this.sessions?.close();
    this.directory ||= await mkdtemp(path.join(tmpdir(), "keyed-"));
    this.sessions = new Sessions({
      logger: silentLogger,
      records: sessionRecords(this.database),
      settings: { logDirectory: this.directory, logBytesMax: 1024 * 1024, retention: { countMax: 10, ageMsMax: 1e12, bytesMax: 1e9 } },
      sprites: {
        subscribe: () => () => {},
        idOf: () => "s1",
        findLife: () => this.life,
        activities: new Activities({ nowMs: Date.now }),
        wakeLife: async () => this.life,
      },
    });
    await this.sessions.recover(new Map([["s1", this.life]]), new Set(["s1"]));
    return this.sessions;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sessions?.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Begins and then says nothing. */
function silentStream(): SessionStream {
  async function* events(): AsyncGenerator<SessionEvent> {
    yield { type: "started", pid: 1, inputTaken: 0, inputReceived: 0, inputEnded: false };
    await new Promise<never>(() => {});
  }
  const nothing = (): void => {};
  return {
    events: events(),
    sendInput: async () => {},
    endInput: nothing,
    resize: nothing,
    signal: nothing,
    acknowledge: nothing,
    close: nothing,
  };
}

let world: World;
afterEach(() => world[Symbol.asyncDispose]());

test("[EXEC-26] requests under one key, at once and later, share one command", async () => {
  world = new World();
  const sessions = await world.daemon();
  const gate = Promise.withResolvers<void>();
  world.before = () => gate.promise;
  const asked = [1, 2, 3].map(async () => await sessions.start("o", "box", request()));
  gate.resolve();
  const [first, ...others] = await Promise.all(asked);
  const later = await sessions.start("o", "box", request());
  expect([...others, later].every((one) => one === first)).toBe(true);
  expect(world.begun).toEqual([first?.id]);
  expect((await sessions.start("o", "box", request({ startKey: "other" }))).id).not.toBe(first?.id);
});

test("[EXEC-26] another request under the key is refused, while the first is being started and afterwards", async () => {
  world = new World();
  const sessions = await world.daemon();
  const gate = Promise.withResolvers<void>();
  world.before = () => gate.promise;
  const first = sessions.start("o", "box", request());
  const other = request({ runAfterDisconnectMs: 5 });
  await expect(sessions.start("o", "box", other)).rejects.toMatchObject({ code: "idempotency_key_reused" });
  gate.resolve();
  const { id } = await first;
  await expect(sessions.start("o", "box", other)).rejects.toMatchObject({
    code: "idempotency_key_reused",
    details: { field: "start_key", session_id: id },
  });
});

test("[EXEC-26] a start goes on when its client leaves, and the next request finds it", async () => {
  world = new World();
  const sessions = await world.daemon();
  const gate = Promise.withResolvers<void>();
  world.before = () => gate.promise;
  const leaving = new AbortController();
  const first = sessions.start("o", "box", request(), { signal: leaving.signal });
  leaving.abort(new Error("the client is gone"));
  await expect(first).rejects.toThrow("the client is gone");
  gate.resolve();
  const session = await sessions.start("o", "box", request());
  expect(world.begun).toEqual([session.id]);
  expect(session.end).toBeUndefined();
});

test("[EXEC-26] a command that the guest refused frees its key", async () => {
  world = new World();
  const sessions = await world.daemon();
  world.before = async () => {
    throw new GuestError("guest_busy", "too many");
  };
  await expect(sessions.start("o", "box", request())).rejects.toMatchObject({ code: "guest_busy" });
  world.before = async () => {};
  const { id } = await sessions.start("o", "box", request());
  expect(world.begun).toEqual([id]);
});

test("[EXEC-26] where it is not known whether the command began, the key leads to a lost session, never to a second start", async () => {
  world = new World();
  let sessions = await world.daemon();
  world.after = async () => {
    throw new GuestError("guest_timeout", "no answer");
  };
  await expect(sessions.start("o", "box", request())).rejects.toMatchObject({ code: "guest_timeout" });
  world.after = async () => {};
  for (const restarts of [false, true]) {
    if (restarts) sessions = await world.daemon();
    const session = await sessions.start("o", "box", request());
    expect(await session.ended).toMatchObject({ kind: "lost", reason: "it is not known whether the command was started" });
  }
  expect(world.begun).toHaveLength(1);
});

test("[EXEC-26] killed before the guest had the command: the repeated request starts it, once", async () => {
  world = new World();
  const killed = await world.daemon();
  world.before = () => new Promise<never>(() => {});
  void killed.start("o", "box", request()).catch(() => {});
  await expect.poll(() => sessionRecords(world.database).findByStartKey("s1", "key")).toBeDefined();
  const next = await world.daemon();
  world.before = async () => {};
  const session = await next.start("o", "box", request());
  expect(world.begun).toEqual([session.id]);
  expect(session.end).toBeUndefined();
});

test("[EXEC-26] killed after the guest had the command: the repeated request goes to it", async () => {
  world = new World();
  const killed = await world.daemon();
  world.after = () => new Promise<never>(() => {});
  void killed.start("o", "box", request()).catch(() => {});
  await expect.poll(() => world.begun).toHaveLength(1);
  const next = await world.daemon();
  world.after = async () => {};
  const session = await next.start("o", "box", request());
  expect([session.id]).toEqual(world.begun);
  expect(session.end).toBeUndefined();
});

test("[EXEC-26] a command that had begun and is gone from the guest is lost, not started again", async () => {
  world = new World();
  const killed = await world.daemon();
  const { id } = await killed.start("o", "box", request());
  world.held.clear();
  const next = await world.daemon();
  const session = await next.start("o", "box", request());
  expect(session.id).toBe(id);
  expect(await session.ended).toMatchObject({ kind: "lost", code: "session_not_found" });
  expect(world.begun).toEqual([id]);
});
