import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { silentLogger } from "@sprited/base";
import type { GuestSession, SessionResume } from "@sprited/protocol/guest";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { GuestError, type GuestLink, type SessionEvent, type SessionStream } from "../guest/index.ts";
import { Activities } from "../sprite/activity.ts";
import { type GuestLife, placedLifeId } from "../sprite/index.ts";
import { SpriteLife } from "../sprite/life.ts";
import { type Database, openDatabase, type SessionRecord, sessionRecords } from "../store/index.ts";
import { planAdoption } from "./adoptions.ts";
import type { ExecSession } from "./exec.ts";
import { Sessions } from "./sessions.ts";

const guestSession = (id: string, more: Partial<GuestSession> = {}): GuestSession => ({
  id,
  argv: ["count", "up"],
  tty: false,
  pid: 7,
  started_at_ms: 1_000,
  stdout_bytes: 12,
  stderr_bytes: 0,
  kept_from: { stdout: 5, stderr: 0 },
  exit: null,
  ...more,
});
const connection = (id: string): GuestSession => guestSession(id, { argv: [], connect: { host: "localhost", port: 80 } });

describe("a plan of adoption", () => {
  const plan = (found: GuestSession[], records: Record<string, Partial<SessionRecord>> = {}) =>
    planAdoption(found, {
      spriteId: "s1",
      lifeId: "l2",
      newId: () => "900",
      find: (id) => records[id] as SessionRecord | undefined,
      nowMs: 5_000,
    });

  test("[EXEC-22, EXEC-23, EXEC-24] commands are adopted with the id they have and without a limit, connections end", () => {
    const { adopted, ended } = plan([guestSession("1"), connection("2"), guestSession("3", { tty: true, size: { cols: 100, rows: 30 } })]);
    expect(ended).toEqual(["2"]);
    expect(adopted.map(({ record }) => record)).toMatchObject([
      { id: "1", owner: "session", command: "count up", size: undefined, lifeId: "l2", logStart: { stdout: 5, stderr: 0 } },
      { id: "3", size: { cols: 100, rows: 30 } },
    ]);
    expect(adopted.map(({ facts }) => [facts.runAfterDisconnectMs, facts.guestId])).toEqual([
      [undefined, undefined],
      [undefined, undefined],
    ]);
  });

  test("[EXEC-23] an id that a record of another life has stays with it; what ended in this life is forgotten", () => {
    const { adopted, ended } = plan([guestSession("1"), guestSession("2")], { "1": { lifeId: "l1" }, "2": { lifeId: "l2" } });
    expect(adopted.map(({ facts }) => [facts.id, facts.guestId])).toEqual([["900", "1"]]);
    expect(ended).toEqual(["2"]);
  });

  test("[EXEC-22] a guest cannot name times, numbers or lengths that nobody expects", () => {
    const wild = guestSession("1", { started_at_ms: 1e300, argv: Array.from({ length: 50 }, () => "x".repeat(10_000)) });
    const facts = plan([wild, ...Array.from({ length: 2_000 }, (_, index) => guestSession(String(index + 10)))]);
    expect(facts.adopted[0]?.facts.createdAtMs).toBe(5_000);
    expect(facts.adopted[0]?.record.argv.join("").length).toBeLessThanOrEqual(64 * 1024);
    expect([facts.adopted.length, facts.ended.length]).toEqual([1_000, 1_001]);
  });
});

/** A guest in which commands run that say `text` from their kept offset on. */
class StagedGuest {
  readonly deleted: string[] = [];
  readonly attached: { id: string; from: SessionResume }[] = [];
  sessions: GuestSession[];
  readonly exits = new Map<string, () => void>();
  failures = 0;
  #cut = Promise.withResolvers<never>();

  constructor(sessions: GuestSession[]) {
    this.sessions = sessions;
  }

  /** Breaks every link. */
  cut(): void {
    this.#cut.promise.catch(() => {}); // nobody may be attached
    this.#cut.reject(new GuestError("guest_link_lost", "cut"));
    this.#cut = Promise.withResolvers();
  }

  get link(): GuestLink {
    return {
      listSessions: async () => {
        if (this.failures-- > 0) throw new Error("cut");
        return this.sessions;
      },
      deleteSession: async (id: string) => void this.deleted.push(id),
      attachSession: async (id: string, from: SessionResume) => {
        this.attached.push({ id, from });
        return this.#stream(id, from);
      },
    } as unknown as GuestLink;
  }

  #stream(id: string, from: SessionResume): SessionStream {
    const { promise: cut } = this.#cut;
    const exit = Promise.withResolvers<void>();
    this.exits.set(id, exit.resolve);
    const events = async function* (): AsyncGenerator<SessionEvent> {
      yield { type: "started", pid: 7, inputTaken: 0, inputReceived: 0, inputEnded: false };
      const kept = Buffer.from("kept 12").subarray(from.stdout - 5);
      yield { type: "output", stream: "stdout", offset: from.stdout, data: kept };
      await Promise.race([cut, exit.promise]);
      yield { type: "exit", exit: { code: 0, signal: null } };
    };
    return {
      events: events(),
      sendInput: async () => {},
      endInput: () => {},
      resize: () => {},
      signal: () => {},
      acknowledge: () => {},
      close: () => {},
    };
  }
}

/** A life that a test wakes. */
class StagedLife extends SpriteLife {
  wakeIn(guest: StagedGuest): void {
    this.awake({ link: async () => guest.link } as unknown as Parameters<SpriteLife["awake"]>[0]);
  }
}

describe("sessions of a placed memory", () => {
  let directory: string;
  let database: Database;
  let life: GuestLife | undefined;
  let changed: () => void = () => {};
  beforeEach(async () => {
    directory = await mkdtemp(path.join(os.tmpdir(), "adoptions-"));
    database = openDatabase(":memory:");
    life = undefined;
  });
  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
    database.close();
  });

  async function open(): Promise<Sessions> {
    const sessions = new Sessions({
      logger: silentLogger,
      records: sessionRecords(database),
      settings: { logDirectory: directory, logBytesMax: 1024 * 1024, retention: { countMax: 10, ageMsMax: 1e9, bytesMax: 1e9 } },
      sprites: {
        subscribe: (listener) => {
          changed = () => listener({ id: "s1" }, "changed");
          return () => {};
        },
        idOf: () => "s1",
        findLife: () => life,
        activities: new Activities({ nowMs: Date.now }),
        wakeLife: async () => life as GuestLife,
      },
    });
    await sessions.recover(new Map(life ? [["s1", life]] : []), new Set(["s1"]));
    return sessions;
  }

  const textOf = async (session: ExecSession | undefined): Promise<string> => {
    let text = "";
    const query = { stream: "all", offset: 0, follow: false, signal: new AbortController().signal } as const;
    for await (const piece of session?.readLog(query) ?? []) {
      text += piece.kind === "gap" ? `<${piece.bytes}>` : Buffer.from(piece.data).toString();
    }
    return text;
  };

  test("[EXEC-22] at the first wake they are listed and read from where the guest keeps them, and outlive the daemon", async () => {
    const guest = new StagedGuest([guestSession("1"), connection("2")]);
    const first = await open();
    const placed = new StagedLife(placedLifeId("a"));
    life = placed;
    changed();
    expect([first.list("o", "s"), guest.attached]).toEqual([[], []]);
    guest.failures = 1;
    placed.wakeIn(guest);
    await expect.poll(() => first.list("o", "s").map(({ id, command }) => [id, command]), { timeout: 5_000 }).toEqual([["1", "count up"]]);
    await expect.poll(async () => await textOf(first.find("o", "s", "1"))).toBe("<5>kept 12");
    expect([guest.deleted, guest.attached]).toEqual([["2"], [{ id: "1", from: { stdout: 5, stderr: 0 } }]]);
    await first.close();

    // What was forgotten while the daemon was away is not adopted a second time.
    guest.sessions = [guestSession("1"), guestSession("3")];
    const second = await open();
    await expect.poll(() => guest.deleted).toEqual(["2", "3"]);
    expect(second.list("o", "s").map(({ id }) => id)).toEqual(["1"]);
    await expect.poll(() => guest.attached.at(-1)).toEqual({ id: "1", from: { stdout: 12, stderr: 0 } });
    expect(await textOf(second.find("o", "s", "1"))).toBe("<5>kept 12");
    await second.close();
  });

  test("[EXEC-22] one that said nothing yet keeps the beginning of its log over a restart", async () => {
    const guest = new StagedGuest([guestSession("1")]);
    sessionRecords(database).adopt("s1", placedLifeId("a"), [
      {
        spriteId: "s1",
        id: "1",
        owner: "session",
        command: "c",
        argv: ["c"],
        workdir: "",
        size: undefined,
        runAfterDisconnectMs: undefined,
        lifeId: placedLifeId("a"),
        createdAtMs: 1,
        logStart: { stdout: 7, stderr: 0 },
        end: undefined,
      },
    ]);
    const placed = new StagedLife(placedLifeId("a"));
    placed.wakeIn(guest);
    life = placed;
    const sessions = await open();
    await expect.poll(() => guest.attached).toEqual([{ id: "1", from: { stdout: 7, stderr: 0 } }]);
    await expect.poll(async () => await textOf(sessions.find("o", "s", "1"))).toBe("<7>pt 12");
    await sessions.close();
  });

  test("[EXEC-22] a daemon that died before it looked looks at its next start; a command started first waits for that", async () => {
    const guest = new StagedGuest([guestSession("1")]);
    const placed = new StagedLife(placedLifeId("a"));
    placed.wakeIn(guest);
    life = placed;
    const sessions = await open();
    await expect.poll(() => sessions.list("o", "s").length).toBe(1);
    expect(guest.deleted).toEqual([]);
    await sessions.close();
  });

  test("[EXEC-23] restored in place: the ended record stays, what goes on has an id of its own", async () => {
    const guest = new StagedGuest([guestSession("1")]);
    const before = new StagedLife(placedLifeId("a"));
    before.wakeIn(guest);
    life = before;
    const sessions = await open();
    await expect.poll(() => sessions.list("o", "s").length).toBe(1);
    await expect.poll(async () => await textOf(sessions.find("o", "s", "1"))).toBe("<5>kept 12");
    before.end({ code: "sprite_restored", reason: "restored" });
    guest.cut();
    const after = new StagedLife(placedLifeId("b"));
    life = after;
    changed();
    after.wakeIn(guest);
    await expect.poll(() => sessions.list("o", "s").filter(({ id }) => id !== "1").length).toBe(1);
    const [goesOn] = sessions.list("o", "s").filter(({ id }) => id !== "1");
    await expect.poll(() => sessions.find("o", "s", "1")?.end).toMatchObject({ kind: "lost", code: "sprite_restored" });
    expect(await textOf(sessions.find("o", "s", "1"))).toBe("<5>kept 12");
    await expect.poll(async () => await textOf(goesOn)).toBe("<5>kept 12");
    expect(guest.attached.map(({ id }) => id)).toEqual(["1", "1"]);
    guest.exits.get("1")?.();
    expect(await goesOn?.ended).toEqual({ kind: "exit", exit: { code: 0, signal: null } });
    await expect.poll(() => guest.deleted).toEqual(["1"]);
    await sessions.close();
  });
});
