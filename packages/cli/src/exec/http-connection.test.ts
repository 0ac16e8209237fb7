import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import { ConnectionError } from "@sprited/protocol/client/errors";
import { encodeHttpExecFrame, HTTP_EXEC_CONTENT_TYPE, type HttpExecFrame } from "@sprited/protocol/stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PostedConnection, type PostedOptions } from "./http-connection.ts";
import { PostedInput } from "./posted-input.ts";

const WAIT = { timeout: 10_000, interval: 5 };
const INFO: HttpExecFrame = { kind: "session_info", info: { session_id: "7", tty: false, offset: 3, input_offset: 2 } };

let server: net.Server;
/** The server's side of the connection, and what it has heard. */
let peer: net.Socket;
let heard: string;
let said: string;

beforeEach(async () => {
  heard = "";
  said = "";
  server = net.createServer((socket) => {
    peer = socket;
    socket.on("data", (data) => (heard += data.toString("latin1")));
    socket.on("error", () => {}); // cut by the tests
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterEach(() => {
  peer.destroy();
  server.close();
});

async function post(options: Partial<PostedOptions> = {}): Promise<PostedConnection> {
  const socket = net.connect((server.address() as AddressInfo).port, "127.0.0.1");
  await once(socket, "connect");
  return new PostedConnection(socket, {
    handlers: { output: (stream, data) => (said += `${stream}:${Buffer.from(data).toString()} `) },
    input: undefined,
    bodyFrom: undefined,
    answered: () => {},
    signal: () => {},
    explain: (error) => error,
    ...options,
  });
}

async function heardHead(): Promise<void> {
  await expect.poll(() => heard, WAIT).toContain("HEAD\r\n");
}

function answer(type: string, status = "200 OK"): void {
  peer.write(`HTTP/1.1 ${status}\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n`);
}

function chunk(...frames: HttpExecFrame[]): void {
  const data = Buffer.concat(frames.map(encodeHttpExecFrame));
  peer.write(Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from("\r\n")]));
}

async function* text(...pieces: string[]): AsyncGenerator<Uint8Array> {
  for (const piece of pieces) yield Buffer.from(piece);
}

describe("PostedConnection", () => {
  it("[HTTP-12] sends the input of a rejoined session only from where the server is", async () => {
    const input = new PostedInput(text("abcd"), { isKept: true });
    const connection = await post({ input });
    const opened = connection.request("HEAD\r\n", {});
    await heardHead();
    answer(HTTP_EXEC_CONTENT_TYPE);
    expect(heard).toBe("HEAD\r\n");
    chunk(INFO);
    await opened;
    expect(connection.info).toMatchObject({ session_id: "7", offset: 3, input_offset: 2 });
    await expect.poll(() => heard, WAIT).toBe("HEAD\r\n2\r\ncd\r\n0\r\n\r\n");
    chunk({ kind: "input_ack", offset: 4 }, { kind: "output", stream: "stderr", data: Buffer.from("x") }, { kind: "exit", code: 6 });
    expect(await connection.ended).toBe(6);
    expect([said, input.offset]).toEqual(["stderr:x ", 4]);
  });

  it("[HTTP-12] sends the input of a start before anything is answered", async () => {
    const connection = await post({ input: new PostedInput(text("abcd"), { isKept: true }), bodyFrom: 0 });
    const opened = connection.request("HEAD\r\n", {});
    await expect.poll(() => heard, WAIT).toBe("HEAD\r\n4\r\nabcd\r\n0\r\n\r\n");
    answer(HTTP_EXEC_CONTENT_TYPE);
    chunk(INFO);
    await opened;
    connection.detach();
    await expect(connection.ended).rejects.toThrow(ConnectionError);
  });

  it.each<[string, string, () => void]>([
    ["before an answer", "closed", () => peer.resetAndDestroy()],
    ["by an end in the middle of the answer", "closed", () => peer.end(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab`)],
    ["by an answer that is none", "bad_answer", () => peer.end("SSH-2.0-x\r\n\r\n\r\n")],
    ["by silence", "timeout", () => {}],
  ])("[HTTP-12] a connection that is lost %s says %s", async (_, code, lose) => {
    const connection = await post();
    const ended = connection.request("HEAD\r\n", { timeoutMs: code === "timeout" ? 50 : 10_000 }).then(() => connection.ended);
    await heardHead();
    lose();
    await expect(ended).rejects.toMatchObject({ name: "ConnectionError", code });
  });

  it("[HTTP-5] an error before the exit is the end; a refusal is the server's", async () => {
    const lost = await post();
    const opened = lost.request("HEAD\r\n", {});
    await heardHead();
    answer(HTTP_EXEC_CONTENT_TYPE);
    chunk(INFO, { kind: "error", error: "vm_lost", message: "gone" }, { kind: "exit", code: 255 });
    await opened;
    await expect(lost.ended).rejects.toMatchObject({ code: "vm_lost" });
    const refused = await post();
    const asked = refused.request("HEAD\r\n", {});
    await expect.poll(() => heard.split("HEAD").length, WAIT).toBe(3);
    peer.end('HTTP/1.1 404 Not Found\r\n\r\n{"error":"session_not_found","message":"no"}');
    await expect(asked).rejects.toMatchObject({ code: "session_not_found", status: 404 });
  });

  it("[CLI-28] an answer without frames is a session without id and positions", async () => {
    const signals: string[] = [];
    const connection = await post({ signal: (_, name) => signals.push(name) });
    const opened = connection.request("HEAD\r\n", {});
    await heardHead();
    answer("application/octet-stream");
    await opened;
    connection.signal("TERM");
    peer.write("4\r\n\u0001out\r\n2\r\n\u0003\u0005\r\n");
    expect(await connection.ended).toBe(5);
    expect([connection.info.session_id, connection.info.offset, said, signals]).toEqual(["", undefined, "stdout:out ", []]);
  });
});
