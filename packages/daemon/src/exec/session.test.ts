import { silentLogger } from "@sprited/base";
import type { SessionStart } from "@sprited/protocol/guest";
import { VmmError, type VmExit } from "@sprited/vmm";
import { describe, expect, test } from "vitest";
import { GuestError, type GuestLink, type SessionEvent, type SessionStream } from "../guest/index.ts";
import type { Machine } from "../machine/index.ts";
import { Activities } from "../sprite/activity.ts";
import type { GuestLife, LifeEnd } from "../sprite/index.ts";
import { openDatabase, sessionRecords } from "../store/index.ts";
import type { Attachment, ExecRequest, SessionEnd, SessionOwner } from "./exec.ts";
import type { SessionLog } from "./log/index.ts";
import { MemoryLog } from "./testing/memory-log.ts";
import { Session } from "./session.ts";
import { Sessions } from "./sessions.ts";

/** A session stream whose events the test hands out; keeps what was sent to the guest. */
class StagedStream implements SessionStream {
  readonly sent: string[] = [];
  #queue: (SessionEvent | Error | undefined)[] = [];
  #wake: () => void = () => {};

  give(...events: (SessionEvent | Error | undefined)[]): void {
    this.#queue.push(...events);
    this.#wake();
  }

  readonly events: AsyncIterable<SessionEvent> = this.#iterate();

  async *#iterate(): AsyncGenerator<SessionEvent> {
    for (;;) {
      while (this.#queue.length === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      const event = this.#queue.shift();
      if (event === undefined) return;
      if (event instanceof Error) throw event;
      yield event;
    }
  }

  async sendInput(offset: number, data: Uint8Array): Promise<void> {
    this.sent.push(`input ${offset} ${Buffer.from(data).toString()}`);
  }
  endInput(offset: number): void {
    this.sent.push(`end ${offset}`);
  }
  resize(): void {
    this.sent.push("resize");
  }
  signal(name: string): void {
    this.sent.push(`signal ${name}`);
  }
  acknowledge(): void {}
  close(): void {
    this.sent.push("close");
  }
}

const output = (offset: number, text: string): SessionEvent => ({ type: "output", stream: "stdout", offset, data: Buffer.from(text) });
const exit = (code: number): SessionEvent => ({ type: "exit", exit: { code, signal: null } });

/** A machine whose links are the given streams, one after another. */
function stagedMachine(links: Partial<GuestLink>[]): { machine: Machine; end(exit: VmExit): void; dials: () => number } {
  let end: (value: VmExit) => void = () => {};
  let dials = 0;
  const exited = new Promise<VmExit>((resolve) => {
    end = resolve;
  });
  const machine = {
    incarnation: "i1",
    pid: 1,
    exited,
    link: async () => {
      const link = links[dials];
      dials += 1;
      if (!link) throw new GuestError("guest_link_lost", "no link");
      return link as GuestLink;
    },
  } as unknown as Machine;
  return { machine, end, dials: () => dials };
}

/** The life of a machine that never sleeps: both end together. */
function lifeOfMachine(machine: Machine): GuestLife {
  return {
    id: machine.incarnation,
    isAwake: true,
    ended: machine.exited.then(() => ({ code: "vm_lost", reason: "the sprite's machine ended" })),
    link: (options) => machine.link(options),
  };
}

function follow(options: { machine: Machine; stream: StagedStream; runAfterDisconnectMs?: number }): {
  session: Session;
  client: Attachment;
} {
  const session = new Session({
    facts: {
      id: "1",
      spriteId: "s1",
      owner: "session",
      command: "test",
      argv: ["test"],
      workdir: "",
      size: undefined,
      createdAtMs: 0,
      runAfterDisconnectMs: options.runAfterDisconnectMs,
    },
    life: lifeOfMachine(options.machine),
    log: new MemoryLog(),
    inputKnown: true,
    inputStore: undefined,
    activities: new Activities({ nowMs: Date.now }),
    wake: () => {},
    onResize: () => {},
    onEnd: async () => {},
    logger: silentLogger,
  });
  const client = session.attach();
  session.follow(options.stream);
  return { session, client };
}

async function textOf(client: Attachment): Promise<string> {
  let text = "";
  for await (const piece of client.output) if (piece.kind === "output") text += Buffer.from(piece.data).toString();
  return text;
}

describe("exec session", () => {
  test("[EXEC-2] a broken link is a pause: the next one goes on from the offsets held", async () => {
    const [first, second] = [new StagedStream(), new StagedStream()];
    const asked: unknown[] = [];
    const { machine } = stagedMachine([
      {
        attachSession: async (_id, offsets) => {
          asked.push(offsets);
          return second;
        },
      },
    ]);
    const { client } = follow({ machine, stream: first });
    const text = textOf(client);
    first.give(
      { type: "started", pid: 1, inputTaken: 0, inputReceived: 0, inputEnded: false },
      output(0, "abc"),
      new GuestError("guest_link_lost", "cut"),
    );
    second.give({ type: "started", pid: 1, inputTaken: 0, inputReceived: 0, inputEnded: false }, output(1, "bcdef"), exit(0));
    expect(await text).toBe("abcdef");
    expect(asked).toEqual([{ stdout: 3, stderr: 0 }]);
    expect(await client.ended).toEqual({ kind: "exit", exit: { code: 0, signal: null } });
  });

  test("[EXEC-4] input that was not taken is sent again over the next link, and its end too", async () => {
    const [first, second] = [new StagedStream(), new StagedStream()];
    const { machine } = stagedMachine([{ attachSession: async () => second }]);
    const { client } = follow({ machine, stream: first });
    first.give({ type: "started", pid: 1, inputTaken: 0, inputReceived: 0, inputEnded: false });
    await client.write(Buffer.from("hello"));
    client.endInput();
    await expect.poll(() => first.sent).toEqual(["input 0 hello", "end 5"]);
    first.give(new GuestError("guest_link_lost", "cut"));
    second.give({ type: "started", pid: 1, inputTaken: 2, inputReceived: 2, inputEnded: false });
    await expect.poll(() => second.sent).toEqual(["input 2 llo", "end 5"]);
    second.give(exit(0));
    await client.ended;
    expect(second.sent).toEqual(["input 2 llo", "end 5", "close"]);
  });

  test("[EXEC-5] the end of the VM and a liar in the guest are ends with a reason", async () => {
    const dead = stagedMachine([]);
    const dying = new StagedStream();
    const { client } = follow({ machine: dead.machine, stream: dying });
    dying.give(new GuestError("guest_link_lost", "cut"));
    dead.end({ kind: "crashed", detail: "" });
    expect(await client.ended).toMatchObject({ kind: "lost", code: "vm_lost" });

    const lying = new StagedStream();
    const liar = follow({ machine: stagedMachine([]).machine, stream: lying });
    lying.give(output(1000, "from nowhere"));
    expect(await liar.client.ended).toMatchObject({ kind: "lost", code: "guest_protocol" });
  });

  test("[EXEC-7] a command without clients is ended when its run-on time is over, and spared by a client that returns", async () => {
    const left = new StagedStream();
    const { client } = follow({ machine: stagedMachine([]).machine, stream: left, runAfterDisconnectMs: 10 });
    left.give({ type: "started", pid: 1, inputTaken: 0, inputReceived: 0, inputEnded: false });
    client.close();
    await expect.poll(() => left.sent).toContain("signal TERM");
    left.give(exit(0));

    const kept = new StagedStream();
    const returned = follow({ machine: stagedMachine([]).machine, stream: kept, runAfterDisconnectMs: 50 });
    kept.give({ type: "started", pid: 1, inputTaken: 0, inputReceived: 0, inputEnded: false });
    returned.client.close();
    const again = returned.session.attach();
    await new Promise((resolve) => setTimeout(resolve, 120));
    expect(kept.sent).toEqual([]);
    kept.give(exit(3));
    expect(await again.ended).toEqual({ kind: "exit", exit: { code: 3, signal: null } });
  });
});

describe("exec feature", () => {
  const request: ExecRequest = {
    work: { kind: "command", argv: ["true"], env: {}, dir: undefined, tty: undefined, stdin: false },
    runAfterDisconnectMs: undefined,
  };
  const sessionsOver = (machines: Machine[]): { sessions: Sessions; wakes: () => number } => {
    let wakes = 0;
    const sessions = new Sessions({
      logger: silentLogger,
      records: sessionRecords(openDatabase(":memory:")),
      settings: { logDirectory: "/nonexistent", logBytesMax: 1024 * 1024, retention: { countMax: 10, ageMsMax: 1e9, bytesMax: 1e9 } },
      sprites: {
        subscribe: () => () => {},
        idOf: () => "s1",
        findLife: () => undefined,
        activities: new Activities({ nowMs: Date.now }),
        wakeLife: async () => {
          wakes += 1;
          return lifeOfMachine(machines[wakes - 1] as Machine);
        },
      },
    });
    return { sessions, wakes: () => wakes };
  };

  test("[EXEC-9] a VM that dies before it was asked anything is woken once more", async () => {
    const dying = stagedMachine([]);
    dying.end({ kind: "crashed", detail: "" });
    const stream = new StagedStream();
    const started: string[] = [];
    const living = stagedMachine([
      {
        startSession: async (id: string, _start: SessionStart) => {
          started.push(id);
          return stream;
        },
        deleteSession: async () => {},
      },
    ]);
    const { sessions, wakes } = sessionsOver([dying.machine, living.machine]);
    const session = await sessions.start("o", "s", request);
    expect(wakes()).toBe(2);
    expect(started).toHaveLength(1);
    const ended = session.attach().ended;
    stream.give(exit(0));
    const end: SessionEnd = await ended;
    expect(end.kind).toBe("exit");
  });

  test("[EXEC-9] a command that may have begun is never started a second time", async () => {
    const { machine, end } = stagedMachine([
      {
        startSession: async () => {
          end({ kind: "crashed", detail: "" });
          throw new VmmError("vmm_exited_early", "gone");
        },
      },
    ]);
    const { sessions, wakes } = sessionsOver([machine, machine]);
    await expect(sessions.start("o", "s", request)).rejects.toThrow("gone");
    expect(wakes()).toBe(1);
  });

  test("[EXEC-8] a command the agent could not start is an error, not a session", async () => {
    const { machine } = stagedMachine([
      {
        startSession: async () => {
          throw new GuestError("guest_inner_failed", "no root file system");
        },
      },
    ]);
    const { sessions } = sessionsOver([machine]);
    await expect(sessions.start("o", "s", request)).rejects.toMatchObject({ code: "guest_inner_failed" });
    expect(sessions.list("o", "s")).toEqual([]);
  });
});

/** Everything around a session that a test can look at. */
function staged(options: { life?: GuestLife; owner?: SessionOwner; log?: SessionLog; tty?: boolean } = {}) {
  const activities = new Activities({ nowMs: Date.now });
  const steps: string[] = [];
  const recorded = Promise.withResolvers<void>();
  const session = new Session({
    facts: {
      id: "1",
      spriteId: "s1",
      owner: options.owner ?? "session",
      command: "test",
      argv: ["test"],
      workdir: "",
      size: options.tty ? { cols: 80, rows: 24 } : undefined,
      createdAtMs: 0,
      runAfterDisconnectMs: undefined,
    },
    life: options.life ?? lifeOfMachine(stagedMachine([]).machine),
    log: options.log ?? new MemoryLog(),
    inputKnown: true,
    inputStore: undefined,
    activities,
    wake: () => void steps.push("wake"),
    onResize: ({ cols, rows }) => void steps.push(`resize ${cols}x${rows}`),
    onEnd: async () => {
      steps.push("recording");
      await recorded.promise;
    },
    logger: silentLogger,
  });
  return { session, activities, steps, recorded, holders: () => activities.holders("s1").map(({ kind }) => kind) };
}

describe("a session over sleep", () => {
  test("[EXEC-12] nothing ends while the sprite sleeps; it goes on with the next machine, and ends with the life", async () => {
    const [first, second] = [new StagedStream(), new StagedStream()];
    const awake = Promise.withResolvers<GuestLink>();
    const end = Promise.withResolvers<LifeEnd>();
    const life: GuestLife = { id: "l1", ended: end.promise, isAwake: false, link: () => awake.promise };
    const { session } = staged({ life });
    const client = session.attach();
    const text = textOf(client);
    session.follow(first);
    first.give(
      { type: "started", pid: 1, inputTaken: 0, inputReceived: 0, inputEnded: false },
      output(0, "one "),
      new GuestError("guest_link_lost", "asleep"),
    );
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(session.end).toBeUndefined();
    session.signal("SIGINT");
    await client.write(Buffer.from("typed"));
    awake.resolve({ attachSession: async () => second } as unknown as GuestLink);
    second.give({ type: "started", pid: 1, inputTaken: 0, inputReceived: 0, inputEnded: false }, output(4, "two"));
    await expect.poll(() => second.sent).toEqual(["signal INT", "input 0 typed"]);
    second.give(new GuestError("guest_link_lost", "gone"));
    end.resolve({ code: "sprite_restored", reason: "the sprite was restored" });
    expect(await client.ended).toEqual({ kind: "lost", code: "sprite_restored", reason: "the sprite was restored" });
    expect(await text).toBe("one two");
  });

  test("[EXEC-21] clients and running jobs hold the sprite awake; who comes, types or signals wakes it", async () => {
    const { session, steps, holders } = staged();
    expect(holders()).toEqual([]);
    const [one, two] = [session.attach(), session.attach()];
    expect([holders(), steps.length]).toEqual([["session"], 2]);
    one.close();
    expect(holders()).toEqual(["session"]);
    two.close();
    expect(holders()).toEqual([]);
    session.signal("TERM");
    expect(steps).toEqual(["wake", "wake", "wake"]);

    const job = staged({ owner: "job" });
    const stream = new StagedStream();
    job.session.follow(stream);
    expect(job.holders()).toEqual(["job"]);
    stream.give({ type: "started", pid: 1, inputTaken: 0, inputReceived: 0, inputEnded: false }, exit(0));
    job.recorded.resolve();
    await job.session.ended;
    expect(job.holders()).toEqual([]);
  });

  test("[EXEC-13] clients hear of the end before it is recorded, jobs only after", async () => {
    for (const owner of ["session", "job"] as const) {
      const { session, steps, recorded } = staged({ owner });
      const stream = new StagedStream();
      session.follow(stream);
      stream.give({ type: "started", pid: 1, inputTaken: 0, inputReceived: 0, inputEnded: false }, exit(7));
      await expect.poll(() => steps).toContain("recording");
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(session.end !== undefined).toBe(owner === "session");
      recorded.resolve();
      expect(await session.ended).toEqual({ kind: "exit", exit: { code: 7, signal: null } });
    }
  });

  test("[EXEC-18] the window of the client that typed last reaches the terminal", async () => {
    const { session, steps } = staged({ tty: true });
    const stream = new StagedStream();
    session.follow(stream);
    stream.give({ type: "started", pid: 1, inputTaken: 0, inputReceived: 0, inputEnded: false });
    const [one, two] = [session.attach(), session.attach()];
    one.resize({ cols: 100, rows: 30 });
    two.resize({ cols: 90, rows: 20 });
    await one.write(Buffer.from("x"));
    expect(steps.filter((step) => step.startsWith("resize"))).toEqual(["resize 100x30", "resize 90x20", "resize 100x30"]);
    expect(session.size).toEqual({ cols: 100, rows: 30 });
    stream.give(exit(0));
  });
});
