import http from "node:http";
import { waitFor } from "@sprited/base";
import { HTTP_EXEC_CONTENT_TYPE, HttpExecDecoder, type HttpExecFrame } from "@sprited/protocol/stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
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

  constructor(query: string) {
    this.request = http.request(`${bed.server.url}/v1/sprites/box/exec?${query}`, {
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
