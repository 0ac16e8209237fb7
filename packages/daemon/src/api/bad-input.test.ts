import net from "node:net";
import { DeadlineError, MailboxFullError } from "@sprited/base";
import { DiskError } from "@sprited/disk";
import { VmmError } from "@sprited/vmm";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { GuestError } from "../guest/errors.ts";
import { openTestbed, type Testbed } from "./testing/testbed.ts";

let bed: Testbed;
beforeEach(async () => {
  bed = await openTestbed();
});
afterEach(() => bed[Symbol.asyncDispose]());

const outcome = async (response: Response): Promise<[number, string]> => [
  response.status,
  ((await response.json()) as { error: string }).error,
];

describe("bodies", () => {
  it.each<[string, unknown, number, string]>([
    ["empty", "", 400, "name_required"],
    ["not JSON", "{", 400, "body_invalid"],
    ["not an object", "[]", 400, "body_invalid"],
    ["an unknown field", { name: "a", colour: "red" }, 400, "field_unknown"],
    ["a wrong type", { name: ["a"] }, 400, "body_invalid"],
    ["a name with a path trick", { name: "../../etc" }, 400, "name_invalid"],
    ["a name of another alphabet", { name: "ａｂｃ" }, 400, "name_invalid"],
    ["memory beyond the host", { name: "a", config: { ram_mb: 1_000_000 } }, 400, "size_beyond_host"],
    ["a number beyond all numbers", { name: "a", config: { ram_mb: 1e300 } }, 400, "body_invalid"],
    ["a prototype trick", '{"name":"a","__proto__":{"x":1}}', 400, "field_unknown"],
    ["deep nesting", `{"name":${"[".repeat(50_000)}`, 400, "body_invalid"],
  ])("[API-10] %s", async (_, body, status, code) => {
    expect(await outcome(await bed.call("POST", "/v1/sprites", { body }))).toEqual([status, code]);
  });

  it("[API-10] bytes that are no UTF-8", async () => {
    const response = await fetch(`${bed.server.url}/v1/sprites`, {
      method: "POST",
      headers: { authorization: `Bearer ${bed.token}` },
      body: Uint8Array.of(0x7b, 0xff, 0x7d),
    });
    expect(await outcome(response)).toEqual([400, "body_invalid"]);
  });

  it("[API-10] larger than the limit, announced or not", async () => {
    const large = "x".repeat(1024 * 1024 + 1);
    const announced = await bed.call("POST", "/v1/sprites", { body: large });
    expect([announced.status, await announced.json()]).toEqual([
      413,
      expect.objectContaining({ error: "body_too_large", limit: 1024 * 1024 }),
    ]);
    const chunked = await fetch(`${bed.server.url}/v1/sprites`, {
      method: "POST",
      headers: { authorization: `Bearer ${bed.token}` },
      body: new Blob([large]).stream(),
      duplex: "half",
    } as RequestInit);
    expect(await outcome(chunked)).toEqual([413, "body_too_large"]);
    expect((await bed.call("GET", "/v1/sprites")).status).toBe(200);
  });
});

describe("paths", () => {
  it.each<[string, string, number, string]>([
    ["GET", "/", 404, "not_found"],
    ["GET", "/v1/nothing", 404, "not_found"],
    ["GET", "/v1/sprites/%zz", 404, "not_found"],
    ["GET", "/v1/sprites/%2e%2e%2f%2e%2e%2fetc", 404, "sprite_not_found"],
    ["GET", "/v1/sprites/UPPER", 404, "sprite_not_found"],
    ["PATCH", "/v1/sprites", 405, "method_not_allowed"],
    ["GET", "/v1/sprites/a/exec/1/kill", 405, "method_not_allowed"],
    ["GET", "/v1/sprites?max_results=many", 400, "query_invalid"],
    ["GET", "/v1/sprites/a/services", 501, "not_available_yet"],
    ["POST", "/v1/sprites/a/policy/network", 501, "not_available_yet"],
  ])("%s %s", async (method, path, status, code) => {
    const response = await bed.call(method, path);
    if (status === 405) expect(response.headers.get("allow")).toMatch(/[A-Z]/);
    expect(await outcome(response)).toEqual([status, code]);
  });

  it("[API-4] control answers 404 with an empty body", async () => {
    const response = await bed.call("GET", "/v1/sprites/a/control");
    expect([response.status, await response.text()]).toEqual([404, ""]);
  });

  it("[API-4] what is missing is told to those with a token only", async () => {
    expect(await outcome(await bed.call("GET", "/v1/sprites/a/services", { token: null }))).toEqual([401, "unauthorized"]);
  });
});

describe("faults below", () => {
  it.each<[Error, number, string]>([
    [new VmmError("vmm_exited_early", "qemu: secret path /x"), 503, "vm_failed_to_start"],
    [new VmmError("vmm_control", "x"), 503, "vm_lost"],
    [new DiskError("disk_full", "x"), 507, "disk_full"],
    [new DiskError("disk_image_unknown", "x"), 400, "image_unknown"],
    [new DiskError("disk_image_invalid", "x"), 500, "image_damaged"],
    [new DiskError("disk_damaged", "x"), 500, "disk_damaged"],
    [new DiskError("disk_size", "x"), 400, "storage_size"],
    [new GuestError("guest_timeout", "x"), 504, "guest_unresponsive"],
    [new GuestError("guest_protocol", "x"), 502, "guest_protocol"],
    [new GuestError("guest_inner_failed", "x"), 503, "guest_linux_failed"],
    [new DeadlineError("waking", 5), 504, "operation_timeout"],
    [new MailboxFullError("full"), 429, "busy"],
    [new Error("secret path /x"), 500, "internal"],
  ])("[API-3] %s becomes a public error without its text", async (error, status, code) => {
    bed.sprites.nextError = error;
    const response = await bed.call("POST", "/v1/sprites", { body: { name: "a" } });
    const text = await response.text();
    expect([response.status, JSON.parse(text)]).toEqual([status, expect.objectContaining({ error: code })]);
    expect(text).not.toContain("secret");
    expect(response.headers.has("retry-after")).toBe([503, 504, 507, 429].includes(status) && code !== "vm_lost");
  });

  it("[API-3] the cause is in the log under the request id of the answer", async () => {
    const cause = new Error("the cause");
    bed.sprites.nextError = cause;
    const response = await bed.call("POST", "/v1/sprites/a/wake");
    const body = (await response.json()) as { error: string; request_id: string };
    expect(body).toMatchObject({ error: "internal", request_id: response.headers.get("x-request-id") });
    const line = bed.lines.find(({ requestId }) => requestId === body.request_id);
    expect(line?.["err"]).toHaveProperty("cause", cause);
  });
});

describe("the wire", () => {
  /** Sends raw bytes and returns what comes back until the server closes. */
  async function raw(text: string): Promise<string> {
    const socket = net.connect(bed.server.address.port, "127.0.0.1");
    socket.on("error", () => {});
    const chunks: Buffer[] = [];
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.write(text);
    await new Promise((resolve) => socket.on("close", resolve));
    return Buffer.concat(chunks).toString();
  }

  it("[API-12] a head with 100 KB of arguments and environment passes", async () => {
    await bed.call("POST", "/v1/sprites", { body: { name: "box" } });
    const query = new URLSearchParams([
      ["cmd", "env"],
      ["cmd", "%ä ".repeat(10_000)],
      ["env", `BIG=${"&=".repeat(30_000)}`],
    ]);
    expect(query.toString().length).toBeGreaterThan(200_000);
    const response = await bed.call("POST", `/v1/sprites/box/exec?${query}`);
    expect(response.status).toBe(200);
    await response.body?.cancel();
  });

  it("[API-12] a larger head is answered 431 with the limit", async () => {
    const answer = await raw(`GET /v1/sprites?x=${"y".repeat(1_200_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 431 /);
    expect(answer.toLowerCase()).toContain("sprite-version: 1.0.0");
    expect(answer).toContain('"error":"header_too_large"');
  });

  it.each([
    "garbage\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n",
    "GET \\\\x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "POST /v1/sprites HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
  ])("[API-1] %j is answered 400 with our headers", async (text) => {
    const answer = await raw(text);
    expect(answer).toMatch(/^HTTP\/1\.1 40[04] /);
    expect(answer.toLowerCase()).toContain("sprite-version: 1.0.0");
  });

  it("[API-1] every kind of answer has our headers", async () => {
    await bed.call("POST", "/v1/sprites", { body: { name: "box" } });
    for (const [method, path] of [
      ["GET", "/healthz"],
      ["HEAD", "/v1/sprites/box/exec"],
      ["GET", "/none"],
      ["GET", "/v1/sprites/box/control"],
      ["POST", "/v1/sprites/box/exec?cmd=echo"],
      ["DELETE", "/v1/sprites/box"],
    ]) {
      const response = await bed.call(method as string, path as string);
      expect(response.headers.get("sprite-version"), `${method} ${path}`).toBe("1.0.0");
      expect(response.headers.get("x-request-id"), `${method} ${path}`).toMatch(/^[0-9a-f-]{36}$/);
      await response.body?.cancel();
    }
  });

  it("an upgrade to something else than a WebSocket is an ordinary request", async () => {
    const answer = await raw(
      "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
    );
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  });
});
