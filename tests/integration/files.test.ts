/** Files through the whole daemon and a real agent on this host: what the wire promises beyond the official clients. */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { run, sleep, waitFor } from "@sprited/base";
import { extract, pack } from "tar-stream";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";
import { sdkOf } from "../kit/target.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

let target: SimulatedTarget;
let top: string;

beforeAll(async () => {
  target = await openSimulated();
  await sdkOf(target).createSprite("files");
});
afterAll(async () => {
  await target[Symbol.asyncDispose]();
});
beforeEach(() => {
  top = fs.mkdtempSync(path.join(os.tmpdir(), "files-api-"));
  return () => fs.rmSync(top, { recursive: true, force: true });
});

const at = (call: string, query: Record<string, string | number | boolean>): string =>
  `${target.baseUrl}/v1/sprites/files/fs/${call}?${new URLSearchParams(Object.entries(query).map(([key, value]) => [key, String(value)] as [string, string])).toString()}`;
const headers = (more: Record<string, string> = {}): Record<string, string> => ({ authorization: `Bearer ${target.token}`, ...more });
const get = (call: string, query: Record<string, string | number | boolean>, more = {}): Promise<Response> =>
  fetch(at(call, query), { headers: headers(more) });
const put = (call: string, query: Record<string, string | number | boolean>, body: string | Uint8Array, more = {}): Promise<Response> =>
  fetch(at(call, query), { method: "PUT", headers: headers(more), body: body as Uint8Array<ArrayBuffer> });
const spriteId = (): string => target.features.sprites.ids()[0] ?? "";

describe("reading", () => {
  test("[FS-1] parts, from either end; beyond the end is 416", async () => {
    fs.writeFileSync(`${top}/f`, "0123456789");
    const part = async (range: string) => {
      const answer = await get("read", { path: `${top}/f` }, { range });
      return [answer.status, answer.headers.get("content-range"), answer.status === 416 ? "" : await answer.text()];
    };
    expect(await part("bytes=2-4")).toEqual([206, "bytes 2-4/10", "234"]);
    expect(await part("bytes=7-")).toEqual([206, "bytes 7-9/10", "789"]);
    expect(await part("bytes=-3")).toEqual([206, "bytes 7-9/10", "789"]);
    expect(await part("bytes=5-500")).toEqual([206, "bytes 5-9/10", "56789"]);
    expect(await part("bytes=10-")).toEqual([416, null, ""]);
    expect(await part("lines=1-2")).toEqual([200, null, "0123456789"]);
  });

  test("[FS-1] the etag changes with the file; If-Match holds to it", async () => {
    fs.writeFileSync(`${top}/f`, "one");
    const first = await get("read", { path: `${top}/f` });
    const etag = first.headers.get("etag") ?? "";
    expect([await first.text(), first.headers.get("content-length"), first.headers.get("x-file-mode")]).toEqual(["one", "3", "0644"]);
    expect((await get("read", { path: `${top}/f` }, { "if-match": etag })).status).toBe(200);
    fs.writeFileSync(`${top}/f`, "two");
    const changed = await get("read", { path: `${top}/f` }, { "if-match": etag });
    expect([changed.status, await changed.json()]).toEqual([412, expect.objectContaining({ reason: "file_changed", code: "ESTALE" })]);
    expect((await put("write", { path: `${top}/f` }, "three", { "if-match": etag })).status).toBe(412);
    expect(fs.readFileSync(`${top}/f`, "utf8")).toBe("two");
  });

  test("[FS-1] HEAD gives the same headers and no body", async () => {
    fs.writeFileSync(`${top}/f`, "12345");
    const answer = await fetch(at("read", { path: `${top}/f` }), { method: "HEAD", headers: headers() });
    expect([answer.status, answer.headers.get("content-length"), await answer.text()]).toEqual([200, "5", ""]);
  });

  test("[FS-16] a reader that leaves ends the call", async () => {
    fs.writeFileSync(`${top}/big`, "");
    fs.truncateSync(`${top}/big`, 10 ** 12);
    const answer = await get("read", { path: `${top}/big` });
    const reader = answer.body?.getReader();
    await reader?.read();
    expect(target.features.sprites.activities.holders(spriteId()).map(({ kind }) => kind)).toContain("file");
    await reader?.cancel();
    await waitFor("the call to end", { timeoutMs: 10_000 }, () => target.features.sprites.activities.holders(spriteId()).length === 0);
  });
});

describe("writing", () => {
  test("[FS-3] a client that goes away in the middle leaves nothing", async () => {
    fs.writeFileSync(`${top}/old`, "old");
    for (const name of ["old", "new"]) {
      const request = http.request(at("write", { path: `${top}/${name}` }), {
        method: "PUT",
        headers: headers({ "content-length": "5000000" }),
      });
      request.on("error", () => {});
      request.write(randomBytes(1_000_000));
      await waitFor("the call", { timeoutMs: 10_000 }, () => target.features.sprites.activities.holders(spriteId()).length > 0);
      request.destroy();
      await waitFor("its end", { timeoutMs: 10_000 }, () => target.features.sprites.activities.holders(spriteId()).length === 0);
    }
    expect([fs.readdirSync(top), fs.readFileSync(`${top}/old`, "utf8")]).toEqual([["old"], "old"]);
  });

  test("[FS-3] larger than any JSON body may be", async () => {
    const content = randomBytes(9_000_000);
    const answer = await put("write", { path: `${top}/f` }, content);
    expect([answer.status, await answer.json()]).toEqual([
      200,
      expect.objectContaining({ path: `${top}/f`, size: 9_000_000, mode: "0644" }),
    ]);
    expect(fs.readFileSync(`${top}/f`).equals(content)).toBe(true);
  });

  test("[FS-3] a refusal reaches a client that is still sending", async () => {
    const answer = await put("write", { path: "/proc/version/x" }, randomBytes(8_000_000));
    expect([answer.status, await answer.json()]).toEqual([409, expect.objectContaining({ code: "ENOTDIR", path: "/proc/version/x" })]);
    expect((await get("list", { path: top })).status).toBe(200);
  });

  test("[FS-5] append and offset change a file in place", async () => {
    fs.writeFileSync(`${top}/f`, "0123456789");
    const { ino } = fs.statSync(`${top}/f`);
    await put("write", { path: `${top}/f`, append: true }, "ab");
    await put("write", { path: `${top}/f`, offset: 3 }, "xyz");
    expect([fs.readFileSync(`${top}/f`, "utf8"), fs.statSync(`${top}/f`).ino]).toEqual(["012xyz6789ab", ino]);
    await put("write", { path: `${top}/far`, offset: 100_000_000 }, "end");
    expect([fs.statSync(`${top}/far`).size, fs.statSync(`${top}/far`).blocks < 100]).toEqual([100_000_003, true]);
  });

  test("[FS-6] an interrupted upload is known by its id; a wrong offset is told the right one", async () => {
    const upload = "an-upload-of-mine";
    const request = http.request(at("write", { path: `${top}/f`, upload }), {
      method: "PUT",
      headers: headers({ "content-length": "100" }),
    });
    request.on("error", () => {});
    request.write("0123456789");
    const offset = async (): Promise<number> => ((await (await get("upload", { upload })).json()) as { offset: number }).offset;
    await waitFor("the call", { timeoutMs: 10_000 }, () => target.features.sprites.activities.holders(spriteId()).length > 0);
    setTimeout(() => request.destroy(), 300);
    await waitFor("what arrived", { timeoutMs: 10_000 }, async () => (await offset()) === 10);
    const wrong = await put("write", { path: `${top}/f`, upload, offset: 4 }, "x");
    expect([wrong.status, await wrong.json()]).toEqual([409, expect.objectContaining({ reason: "file_offset", offset: 10 })]);
    expect(fs.readdirSync(top)).toEqual([]);
    expect((await put("write", { path: `${top}/f`, upload, offset: 10 }, "abc")).status).toBe(200);
    expect([fs.readFileSync(`${top}/f`, "utf8"), await offset()]).toEqual(["0123456789abc", 0]);
  });

  test("[FS-6] an upload that still runs tells how far it is; a newer connection goes on with it, and the older one writes no more", async () => {
    const upload = "half-open-upload";
    const answered = Promise.withResolvers<number | undefined>();
    const older = http.request(at("write", { path: `${top}/f`, upload }), { method: "PUT", headers: headers({ "content-length": "30" }) });
    older.on("error", () => answered.resolve(undefined));
    older.on("response", (response) => answered.resolve(response.statusCode));
    older.write("0123456789");
    const offset = async (): Promise<number> => ((await (await get("upload", { upload })).json()) as { offset: number }).offset;
    await waitFor("what arrived", { timeoutMs: 10_000 }, async () => (await offset()) === 10);
    expect((await put("write", { path: `${top}/f`, upload, offset: 10 }, "newer")).status).toBe(200);
    older.end("x".repeat(20));
    expect([412, undefined]).toContain(await answered.promise);
    expect([fs.readFileSync(`${top}/f`, "utf8"), await offset()]).toEqual(["0123456789newer", 0]);
  });

  test("[FS-4] a file gets the time of the last change that is asked for, to the ms", async () => {
    fs.writeFileSync(`${top}/old`, "old");
    for (const name of ["new", "old"]) {
      await put("write", { path: `${top}/${name}`, mtime: 1_600_000_000_123 }, "x");
      expect(Math.floor(fs.statSync(`${top}/${name}`).mtimeMs)).toBe(1_600_000_000_123);
    }
    expect((await put("write", { path: `${top}/new`, mtime: -1 }, "x")).status).toBe(400);
  });

  test.runIf(process.getuid?.() === 0)("[FS-15] a full disk is ENOSPC, and what was there stays", async () => {
    await run("mount", ["-t", "tmpfs", "-o", "size=1m", "small", top]);
    try {
      fs.writeFileSync(`${top}/kept`, "kept");
      const full = await put("write", { path: `${top}/kept` }, randomBytes(4_000_000));
      expect([full.status, await full.json()]).toEqual([507, expect.objectContaining({ code: "ENOSPC", reason: "file_no_space" })]);
      expect([fs.readdirSync(top), fs.readFileSync(`${top}/kept`, "utf8")]).toEqual([["kept"], "kept"]);
      expect(fs.statfsSync(top).bavail).toBeGreaterThan(200);
    } finally {
      await run("umount", [top]);
    }
  });
});

test.runIf(process.getuid?.() === 0)("[FS-21] a file system that hangs holds up the call on it and no other", async () => {
  const image = `${top}/image`;
  fs.writeFileSync(image, "");
  fs.truncateSync(image, 32 * 1024 * 1024);
  fs.mkdirSync(`${top}/m`);
  await run("mkfs.ext4", ["-q", image]);
  await run("mount", ["-o", "loop", image, `${top}/m`]);
  try {
    await run("fsfreeze", ["--freeze", `${top}/m`]);
    let hung: Promise<Response>;
    try {
      hung = put("write", { path: `${top}/m/f` }, "late");
      await sleep(2_000);
      expect((await put("write", { path: `${top}/f` }, "in time")).status).toBe(200);
      expect(fs.readFileSync(`${top}/f`, "utf8")).toBe("in time");
      expect((await sdkOf(target).sprite("files").execFile("echo", ["alive"])).stdout).toBe("alive\n");
    } finally {
      await run("fsfreeze", ["--unfreeze", `${top}/m`]);
    }
    expect((await hung).status).toBe(200);
    expect(fs.readFileSync(`${top}/m/f`, "utf8")).toBe("late");
  } finally {
    await run("umount", [`${top}/m`]);
  }
});

describe("trees", () => {
  test("[FS-10] [FS-11] a tar goes in and comes out, long names and odd ones too", async () => {
    const long = `${"d".repeat(120)}/${"ü".repeat(100)}.txt`;
    const tar = pack();
    tar.entry({ name: long, mode: 0o640, mtime: new Date(1_600_000_000_000) }, "long");
    tar.entry({ name: "./a b/c", mode: 0o700 }, "x".repeat(100_000));
    tar.entry({ name: "link", type: "symlink", linkname: "a b/c" });
    tar.entry({ name: "again", type: "link", linkname: "a b/c" });
    tar.finalize();
    const body = await allOf(tar as AsyncIterable<Uint8Array>);
    const answer = await put("tree", { path: `${top}/t` }, body);
    expect([answer.status, await answer.json()]).toEqual([200, { path: `${top}/t`, count: 4, totalBytes: 100_004 }]);
    expect(fs.statSync(`${top}/t/${long}`)).toMatchObject({ mode: 0o100640, mtimeMs: 1_600_000_000_000 });
    expect([fs.readlinkSync(`${top}/t/link`), fs.statSync(`${top}/t/again`).ino]).toEqual(["a b/c", fs.statSync(`${top}/t/a b/c`).ino]);
    const names: Record<string, number> = {};
    const back = extract();
    void get("tree", { path: `${top}/t` }).then(async (out) => back.end(Buffer.from(await out.arrayBuffer())));
    for await (const entry of back) {
      names[entry.header.name] = entry.header.size;
      entry.resume();
    }
    expect(names).toMatchObject({ [long]: 4, "a b/c": 100_000, again: 100_000, link: 0 });
  });

  test("[FS-10] times keep their ms both ways", async () => {
    const times = [0, 1, 122, 123, 500, 999].map((ms) => 1_790_000_000_000 + ms);
    const tar = pack();
    for (const ms of times) tar.entry({ name: String(ms), mtime: new Date(ms), pax: { mtime: (ms / 1000).toFixed(9) } }, "x");
    tar.finalize();
    expect((await put("tree", { path: `${top}/t` }, await allOf(tar as AsyncIterable<Uint8Array>))).status).toBe(200);
    expect(times.map((ms) => Math.floor(fs.statSync(`${top}/t/${ms}`).mtimeMs))).toEqual(times);
    const back = extract();
    void get("tree", { path: `${top}/t` }).then(async (out) => back.end(Buffer.from(await out.arrayBuffer())));
    const told: number[] = [];
    for await (const entry of back) {
      const { type, mtime, pax } = entry.header;
      const seconds = Number((pax as { mtime?: string } | null)?.mtime ?? mtime.getTime() / 1000);
      if (type === "file") told.push(Math.round(seconds * 1000));
      entry.resume();
    }
    expect(told.toSorted((one, other) => one - other)).toEqual(times);
  });

  test("[FS-10] a tree that is being written tells the bytes of its files that are in their places", async () => {
    const upload = "a-tree-of-mine";
    const tar = pack();
    const request = http.request(at("tree", { path: `${top}/t`, upload }), { method: "PUT", headers: headers() });
    tar.entry({ name: "a" }, "12345");
    const half = tar.entry({ name: "b", size: 10 });
    half.write("half");
    for (const stream of [request, tar, half]) stream.on("error", () => {});
    tar.pipe(request);
    const offset = async (): Promise<number> => ((await (await get("upload", { upload })).json()) as { offset: number }).offset;
    await waitFor("the first file", { timeoutMs: 10_000 }, async () => (await offset()) === 5);
    expect(fs.readFileSync(`${top}/t/a`, "utf8")).toBe("12345");
    request.destroy();
    await waitFor("its end", { timeoutMs: 10_000 }, async () => (await offset()) === 0);
  });

  test("[FS-13] a tar that leads out of the directory is refused, and so is what is no tar", async () => {
    const tar = pack();
    tar.entry({ name: "../out" }, "x");
    tar.finalize();
    const body = await allOf(tar as AsyncIterable<Uint8Array>);
    expect((await put("tree", { path: `${top}/t` }, body)).status).toBe(400);
    expect((await put("tree", { path: `${top}/t` }, randomBytes(2048))).status).toBe(400);
    expect(fs.existsSync(`${top}/out`)).toBe(false);
  });

  test("[FS-12] what is left out of a tree is named in its last entry", async () => {
    fs.mkdirSync(`${top}/t`);
    await run("mkfifo", [`${top}/t/pipe`]);
    const text = Buffer.from(await (await get("tree", { path: `${top}/t` })).arrayBuffer()).toString("latin1");
    expect(text).toContain(".sprite-incomplete");
    expect(text).toContain("EINVAL pipe\n");
  });
});

test("[FS-17] file calls wake the sprite and hold it awake while they run", async () => {
  fs.writeFileSync(`${top}/f`, "x");
  await sdkOf(target).createSprite("sleeper");
  expect((await sdkOf(target).getSprite("sleeper")).status).toBe("cold");
  expect((await fetch(`${target.baseUrl}/v1/sprites/sleeper/fs/stat?path=${top}/f`, { headers: headers() })).status).toBe(200);
  expect((await sdkOf(target).getSprite("sleeper")).status).toBe("running");
});

test("[FS-18] an agent that is gone is a typed error, before and during an answer", async () => {
  await sdkOf(target).createSprite("mortal");
  fs.writeFileSync(`${top}/big`, "");
  fs.truncateSync(`${top}/big`, 10 ** 12);
  const reading = await fetch(`${target.baseUrl}/v1/sprites/mortal/fs/read?path=${top}/big`, { headers: headers() });
  const writing = fetch(`${target.baseUrl}/v1/sprites/mortal/fs/write?path=${top}/w`, {
    method: "PUT",
    headers: headers(),
    body: new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array(1000)) }),
    duplex: "half",
  } as RequestInit);
  const id = target.features.sprites.idOf(target.features.organizations.list()[0]?.id ?? "", "mortal");
  await waitFor("both calls", { timeoutMs: 10_000 }, () => target.features.sprites.activities.holders(id).length === 2);
  for (const machine of target.host.running()) await target.host.crash(machine.spec.incarnation);
  const answer = await writing;
  expect([answer.status, (await answer.json()) as unknown]).toEqual([503, expect.objectContaining({ error: "vm_lost" })]);
  await expect(reading.arrayBuffer()).rejects.toThrow();
  expect(fs.existsSync(`${top}/w`)).toBe(false);
});

async function allOf(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}
