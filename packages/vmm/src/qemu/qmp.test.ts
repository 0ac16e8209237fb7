import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { type Duplex, duplexPair } from "node:stream";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { connectSocket, LineSplitter, parseMessage, QMP_LINE_BYTES_MAX, type QmpEvent, QmpSession } from "./qmp.ts";

describe("lines of the control socket", () => {
  test("come out the same however the bytes are cut", () => {
    const line = fc.string({ unit: "grapheme", maxLength: 40 }).map((text) => JSON.stringify({ text }));
    const cuts = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 });
    fc.assert(
      fc.property(fc.array(line), cuts, (lines, sizes) => {
        const splitter = new LineSplitter();
        const found: string[] = [];
        let rest = Buffer.from(lines.map((text) => `${text}\r\n`).join(""));
        for (let index = 0; rest.length > 0; index += 1) {
          const size = sizes[index % sizes.length]!;
          found.push(...splitter.push(rest.subarray(0, size)));
          rest = rest.subarray(size);
        }
        expect(found).toEqual(lines);
      }),
    );
  });

  test("may be as long as the limit and not longer", () => {
    const text = "x".repeat(QMP_LINE_BYTES_MAX);
    expect(new LineSplitter().push(Buffer.from(`${text}\n`))).toEqual([text]);
    expect(() => new LineSplitter().push(Buffer.from(`${text}x`))).toThrow("too long");
    const splitter = new LineSplitter();
    for (let sent = 0; sent < QMP_LINE_BYTES_MAX; sent += 65_536) splitter.push(Buffer.alloc(65_536, 120));
    expect(() => splitter.push(Buffer.from("x"))).toThrow("too long");
  });

  test.each(["", "nonsense", "[]", "null", '{"other":1}', '{"error":"text"}', '{"event":1}', '{"return":1,"id":"text"}'])(
    "%j is no message",
    (line) => {
      expect(() => parseMessage(line)).toThrow("the control socket sent");
    },
  );
});

/** A session with the peer's end of its connection. */
function open(): {
  session: QmpSession;
  peer: Duplex;
  events: QmpEvent[];
  sent(): Record<string, unknown>[];
  say(...messages: unknown[]): void;
} {
  const [near, peer] = duplexPair();
  const events: QmpEvent[] = [];
  let received = "";
  peer.setEncoding("utf8").on("data", (text: string) => (received += text));
  const session = new QmpSession(near, { onEvent: (event) => events.push(event) });
  return {
    session,
    peer,
    events,
    sent: () =>
      received
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Record<string, unknown>),
    say: (...messages) => void peer.write(messages.map((message) => `${JSON.stringify(message)}\r\n`).join("")),
  };
}

describe("a control session", () => {
  test("negotiates first and sends without waiting", async () => {
    const { session, sent, say } = open();
    const answers = [session.execute("stop"), session.execute("query-status", { a: 1 })];
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent()).toEqual([
      { execute: "qmp_capabilities", id: 1 },
      { execute: "stop", id: 2 },
      { execute: "query-status", arguments: { a: 1 }, id: 3 },
    ]);
    say({ QMP: {} }, { return: {}, id: 1 }, { return: "third", id: 3 }, { return: "second", id: 2 });
    expect(await Promise.all(answers)).toEqual(["second", "third"]);
  });

  test("hands over events that come between replies, in order", async () => {
    const { session, events, say } = open();
    const answer = session.execute("cont");
    say({ event: "RESUME", timestamp: {} }, { return: {}, id: 2 }, { event: "STOP", data: { a: 1 } });
    await answer;
    await new Promise((resolve) => setImmediate(resolve));
    expect(events).toEqual([
      { event: "RESUME", data: {} },
      { event: "STOP", data: { a: 1 } },
    ]);
  });

  test("refusals are typed; QEMU's words are the cause, not the message", async () => {
    const { session, say } = open();
    const answer = session.execute("migrate");
    say({ error: { class: "GenericError", desc: "secret detail" }, id: 2 });
    await expect(answer).rejects.toMatchObject({
      code: "vmm_control",
      message: "QEMU refused migrate",
      cause: new Error("GenericError: secret detail"),
    });
  });

  test("an answer to nobody and an error without id change nothing", async () => {
    const { session, say } = open();
    const answer = session.execute("stop");
    say({ return: 1, id: 99 }, { error: { class: "GenericError", desc: "x" } }, { return: "mine", id: 2 });
    expect(await answer).toBe("mine");
  });

  test.each([
    ["garbage", "garbage\n"],
    ["an endless line", "x".repeat(QMP_LINE_BYTES_MAX + 1)],
    ["an unknown message", '{"other":1}\n'],
  ])("%s ends it, and everything that waits", async (_what, bytes) => {
    const { session, peer } = open();
    const answer = session.execute("stop");
    peer.write(bytes);
    await expect(answer).rejects.toMatchObject({ code: "vmm_control" });
    expect(await session.closed).toMatchObject({ code: "vmm_control" });
    expect(session.isOpen).toBe(false);
    await expect(session.execute("cont")).rejects.toMatchObject({ code: "vmm_control" });
  });

  test("the peer's end ends it", async () => {
    const { session, peer } = open();
    const answer = session.execute("stop");
    peer.end();
    await expect(answer).rejects.toMatchObject({ code: "vmm_control" });
  });

  test("no answer is a time-out; the session lives on", async () => {
    const { session, say } = open();
    await expect(session.execute("stop", undefined, { timeoutMs: 20 })).rejects.toMatchObject({ code: "vmm_timeout" });
    const answer = session.execute("cont");
    say({ return: "late", id: 2 }, { return: "mine", id: 3 });
    expect(await answer).toBe("mine");
  });

  test("a caller that calls off gets its own reason", async () => {
    const { session } = open();
    const controller = new AbortController();
    const answer = session.execute("stop", undefined, { signal: controller.signal });
    controller.abort(new Error("called off"));
    await expect(answer).rejects.toThrow("called off");
  });
});

describe("connecting to a socket that a VMM makes", () => {
  async function withDirectory(name: string, use: (directory: string) => Promise<void>): Promise<void> {
    const root = await fs.mkdtemp(path.join(tmpdir(), "sprited-qmp-"));
    try {
      await fs.mkdir(path.join(root, name));
      await use(path.join(root, name));
    } finally {
      await fs.rm(root, { recursive: true, force: true });
    }
  }

  async function listen(directory: string, name: string): Promise<net.Server> {
    // Bound under a short name and moved: a server has no way around the limit of an address.
    const short = path.join(tmpdir(), `s-${randomBytes(6).toString("hex")}`);
    const server = net.createServer((socket) => socket.end("hello"));
    await new Promise<void>((resolve) => server.listen(short, resolve));
    await fs.rename(short, path.join(directory, name));
    return server;
  }

  test.each([
    ["a short", "vm"],
    ["a long", "x".repeat(150)],
  ])("waits until it is there, also below %s path", async (_what, name) => {
    await withDirectory(name, async (directory) => {
      const socketPath = path.join(directory, "qmp.sock");
      const connecting = connectSocket(socketPath, AbortSignal.timeout(5_000));
      const server = await listen(directory, "qmp.sock");
      const chunks: Buffer[] = [];
      for await (const chunk of await connecting) chunks.push(chunk as Buffer);
      expect(Buffer.concat(chunks).toString()).toBe("hello");
      server.close();
    });
  });

  test("refuses a link: what runs in the machine could have put it there", async () => {
    await withDirectory("vm", async (directory) => {
      const server = await listen(directory, "real.sock");
      await fs.symlink(path.join(directory, "real.sock"), path.join(directory, "qmp.sock"));
      await expect(connectSocket(path.join(directory, "qmp.sock"), AbortSignal.timeout(5_000))).rejects.toMatchObject({
        code: "vmm_control",
      });
      server.close();
    });
  });

  test("ends with the caller's reason", async () => {
    const controller = new AbortController();
    const connecting = connectSocket("/nowhere/qmp.sock", controller.signal);
    controller.abort(new Error("called off"));
    await expect(connecting).rejects.toThrow("called off");
  });
});
