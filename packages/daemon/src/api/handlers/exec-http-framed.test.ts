import http from "node:http";
import { waitFor } from "@sprited/base";
import { HTTP_EXEC_CONTENT_TYPE, HttpExecDecoder, type HttpExecFrame } from "@sprited/protocol/stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ExecSocketClient } from "../testing/exec-socket-client.ts";
import type { MemorySession } from "../testing/memory-exec.ts";
import { openTestbed, type Testbed } from "../testing/testbed.ts";

let bed: Testbed;
beforeEach(async () => {
  bed = await openTestbed({ timings: { keepAliveMs: 40 } });
  await bed.call("POST", "/v1/sprites", { body: { name: "box" } });
});
afterEach(() => bed[Symbol.asyncDispose]());

const session = (): MemorySession => [...bed.exec.sessions.values()].at(-1) as MemorySession;

/** One request whose body is written while the answer is read. */
class Post {
  readonly frames: HttpExecFrame[] = [];
  readonly request: http.ClientRequest;
  readonly answered: Promise<http.IncomingMessage>;
  readonly ended: Promise<void>;

  constructor(query: string, place = "") {
    this.request = http.request(`${bed.server.url}/v1/sprites/box/exec${place}?${query}`, {
      method: "POST",
      headers: { authorization: `Bearer ${bed.token}`, accept: `text/html, ${HTTP_EXEC_CONTENT_TYPE};q=1` },
    });
    this.answered = new Promise((resolve, reject) => {
      this.request.on("response", resolve);
      this.request.on("error", reject);
    });
    this.ended = this.answered.then(async (response) => {
      const decoder = new HttpExecDecoder();
      for await (const chunk of response) this.frames.push(...decoder.push(chunk as Buffer));
      expect(decoder.isInside).toBe(false);
    });
    this.ended.catch(() => {}); // awaited by the tests that end it
  }

  /** Waits for output that begins so. */
  async hears(text: string): Promise<void> {
    await waitFor(text, { timeoutMs: 5_000, everyMs: 5 }, () => this.output("stdout").startsWith(text));
  }

  /** The first frame; asks for it without input, where nothing was sent yet. */
  async info(): Promise<Record<string, unknown>> {
    this.request.flushHeaders();
    await waitFor("the first frame", { timeoutMs: 5_000, everyMs: 5 }, () => this.frames.length > 0);
    const [first] = this.frames;
    return first?.kind === "session_info" ? first.info : {};
  }

  /** Breaks the connection off in the middle of whatever it carries. */
  cut(): void {
    this.request.on("error", () => {}); // cut by ourselves
    this.request.destroy();
  }

  output(stream: "stdout" | "stderr"): string {
    return Buffer.concat(this.frames.flatMap((one) => (one.kind === "output" && one.stream === stream ? [one.data] : []))).toString(
      "latin1",
    );
  }
}

describe("exec over HTTP with frames", () => {
  it("[HTTP-3] session_info, output, exit, in this order", async () => {
    const post = new Post("cmd=both");
    post.request.end();
    expect((await post.answered).headers["content-type"]).toBe(HTTP_EXEC_CONTENT_TYPE);
    await post.ended;
    expect(post.frames[0]).toMatchObject({ kind: "session_info", info: { type: "session_info", session_id: session().id, tty: false } });
    expect([post.output("stdout"), post.output("stderr")]).toEqual(["out\n", "err\n"]);
    expect(post.frames.at(-1)).toEqual({ kind: "exit", code: 3 });
  });

  it.each([undefined, "*/*", "application/octet-stream"])("[HTTP-1] Accept %s gets the official framing", async (accept) => {
    const response = await bed.call("POST", "/v1/sprites/box/exec?cmd=echo", accept === undefined ? {} : { headers: { accept } });
    expect(response.headers.get("content-type")).toBe("application/octet-stream");
    await response.arrayBuffer();
  });

  it("[HTTP-2] 8 MiB arrive whole, in frames of at most 64 KiB", async () => {
    const post = new Post(`cmd=flood&cmd=${8 * 1024 * 1024}`);
    post.request.end();
    await post.ended;
    expect(post.output("stdout")).toHaveLength(8 * 1024 * 1024);
    expect(Math.max(...post.frames.map((one) => (one.kind === "output" ? one.data.length : 0)))).toBeLessThanOrEqual(65_536);
  });

  it("[HTTP-6] input streams while output comes back", async () => {
    const post = new Post("cmd=cat");
    for (const text of ["one ", "two ", "three"]) {
      const before = post.output("stdout").length;
      post.request.write(text);
      await waitFor("the echo", { timeoutMs: 5_000, everyMs: 5 }, () => post.output("stdout").length > before);
    }
    post.request.end();
    await post.ended;
    expect(post.output("stdout")).toBe("one two three");
    expect(post.frames.at(-1)).toEqual({ kind: "exit", code: 0 });
  });

  it("[HTTP-4] a silent command shows signs of life", async () => {
    const post = new Post("cmd=sleep");
    post.request.end();
    await waitFor(
      "keep-alives",
      { timeoutMs: 5_000, everyMs: 5 },
      () => post.frames.filter((one) => one.kind === "keep_alive").length >= 2,
    );
    session().signal("TERM");
    await post.ended;
    expect(post.frames.at(-1)).toEqual({ kind: "exit", code: 143 });
  });

  it("[HTTP-5] a lost command says why and ends with 255", async () => {
    const post = new Post("cmd=lose");
    post.request.end();
    await post.ended;
    expect(post.frames.slice(-2)).toEqual([
      { kind: "error", error: "vm_lost", message: "the sprite's VM ended while the command ran" },
      { kind: "exit", code: 255 },
    ]);
  });

  it("[HTTP-8] a client that does not read holds the command back; its leaving ends the attachment", async () => {
    const post = http.request(`${bed.server.url}/v1/sprites/box/exec?cmd=flood&cmd=${64 * 1024 * 1024}`, {
      method: "POST",
      headers: { authorization: `Bearer ${bed.token}`, accept: HTTP_EXEC_CONTENT_TYPE },
    });
    post.on("error", () => {}); // destroyed below
    post.end();
    await new Promise((resolve) => post.on("response", resolve));
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(session().outputOffsets.stdout).toBeLessThan(8 * 1024 * 1024);
    post.destroy();
    await waitFor("the attachment to close", { timeoutMs: 5_000 }, () => session().clients === 0);
  });
});

describe("going on after a lost connection", () => {
  const ours = "stdin=true&input_acks=true&client=c1";
  const attach = (query: string): Post => new Post(query, `/${session().id}`);

  it("[HTTP-10] an attach goes on at the log position that it names", async () => {
    const first = new Post("cmd=cat&stdin=true");
    first.request.write("one two ");
    await first.hears("one two ");
    expect(await first.info()).toMatchObject({ offset: 0, is_owner: true });
    const second = attach("stdin=false&offset=4");
    second.request.end();
    expect((await second.answered).headers["content-type"]).toBe(HTTP_EXEC_CONTENT_TYPE);
    expect(await second.info()).toMatchObject({ session_id: session().id, offset: 4, is_owner: false });
    first.request.end("three");
    await second.ended;
    expect([second.output("stdout"), second.frames.at(-1)]).toEqual(["two three", { kind: "exit", code: 0 }]);
    const late = attach("");
    late.request.end();
    await late.ended;
    expect(late.output("stdout")).toBe("one two three");
  });

  it("[HTTP-11] input that is sent again is taken once; a body that breaks off is not its end", async () => {
    const first = new Post(`cmd=cat&${ours}&input_offset=0`);
    first.request.write("one two ");
    await first.hears("one two ");
    await waitFor("the acknowledgement", { timeoutMs: 5_000, everyMs: 5 }, () =>
      first.frames.some((one) => one.kind === "input_ack" && one.offset === 8),
    );
    first.cut();
    await waitFor("the loss", { timeoutMs: 5_000 }, () => session().closes.length === 1);
    expect([session().closes, session().end]).toEqual([[true], undefined]);
    const again = attach(`${ours}&offset=0&input_offset=4`);
    again.request.write("two thr");
    await again.hears("one two thr");
    expect(await again.info()).toMatchObject({ offset: 0, input_offset: 8 });
    again.cut();
    await waitFor("the loss", { timeoutMs: 5_000 }, () => session().closes.length === 2);
    const last = attach(`${ours}&offset=8`);
    expect((await last.info())["input_offset"]).toBe(11);
    last.request.end("ee");
    await last.ended;
    expect([last.output("stdout"), last.frames.at(-1)]).toEqual(["three", { kind: "exit", code: 0 }]);
  });

  it("[HTTP-11] a client that comes back ends its older request, whose late input is not taken", async () => {
    const first = new Post(`cmd=cat&${ours}&input_offset=0`);
    first.request.write("one ");
    await first.hears("one ");
    const socket = await ExecSocketClient.open(bed, "client=c1&input_acks=true&offset=4", { path: `/v1/sprites/box/exec/${session().id}` });
    await expect(first.ended).rejects.toThrow();
    first.request.on("error", () => {}); // its connection is gone
    first.request.write("late");
    socket.socket.send(Buffer.from("\0two "));
    await socket.hears(1, "two ");
    const back = attach(`${ours}&offset=8&input_offset=8`);
    await back.info();
    await socket.closed();
    back.request.end("three");
    await back.ended;
    expect(back.output("stdout")).toBe("three");
    expect(session().log.end).toBe(13);
  });

  it("[HTTP-10] an answer in the official framing too is cut off without an exit when its client comes back", async () => {
    const response = await bed.call("POST", `/v1/sprites/box/exec?cmd=sleep&client=c1`);
    const back = attach("client=c1");
    await back.info();
    await expect(response.arrayBuffer()).rejects.toThrow();
    back.cut();
  });

  it("[HTTP-11] input that begins after what the session has is refused, and nothing of it taken", async () => {
    const first = new Post(`cmd=cat&${ours}&input_offset=0`);
    first.request.write("one");
    await first.hears("one");
    first.cut();
    const response = await bed.call("POST", `/v1/sprites/box/exec/${session().id}?client=c1&stdin=true&input_offset=4`);
    expect([response.status, ((await response.json()) as { error: string }).error]).toEqual([400, "exec_invalid"]);
    await waitFor("the attachments to close", { timeoutMs: 5_000 }, () => session().clients === 0);
    expect([session().inputOf("c1").accepted, session().end]).toEqual([3, undefined]);
    expect((await bed.call("POST", "/v1/sprites/box/exec/99")).status).toBe(404);
    expect((await bed.call("POST", "/v1/sprites/box/exec/start?cmd=echo")).status).toBe(400);
  });

  it("[HTTP-10] a server that stops cuts the answer off without an exit", async () => {
    const post = new Post(`cmd=sleep&${ours}`);
    await post.info();
    const closed = bed.server.close({ drainMs: 5_000 });
    await expect(post.ended).rejects.toThrow();
    await closed;
    expect(post.frames.some((one) => one.kind === "exit")).toBe(false);
    expect(session().closes).toEqual([true]);
  });
});
