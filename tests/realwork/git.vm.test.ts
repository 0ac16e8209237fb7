/** A large repository, served over HTTP inside a sprite, is cloned by exec and by a job, and read out through exec. */
import { createHash, randomBytes } from "node:crypto";
import { spawn } from "node:child_process";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { run } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DEVELOPER_IMAGE, developerSkipReason, WAYS, Workshop } from "./workshop.ts";

vi.setConfig({ testTimeout: 1_800_000, hookTimeout: 900_000 });

/** Size of the repository, MB; nothing in it can be compressed. */
const REPOSITORY_MB = Number(process.env["SPRITED_TEST_REPOSITORY_MB"] ?? 100);
const FILE_BYTES = 20_000;
const FILES_PER_COMMIT = 100;
const PORT = 8088;

/** `git http-backend` as a server: each request is a process, both bodies stream. */
const SERVER = `
import http from "node:http";
import { spawn } from "node:child_process";
http.createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  const git = spawn("git", ["http-backend"], { env: { ...process.env,
    GIT_PROJECT_ROOT: process.env.HOME, GIT_HTTP_EXPORT_ALL: "1", PATH_INFO: url.pathname, QUERY_STRING: url.search.slice(1),
    REQUEST_METHOD: request.method, CONTENT_TYPE: request.headers["content-type"] ?? "",
    HTTP_CONTENT_ENCODING: request.headers["content-encoding"] ?? "", GIT_PROTOCOL: request.headers["git-protocol"] ?? "" },
    stdio: ["pipe", "pipe", "inherit"] });
  request.pipe(git.stdin);
  let head = Buffer.alloc(0);
  const begin = (data) => {
    head = Buffer.concat([head, data]);
    const end = head.indexOf("\\r\\n\\r\\n");
    if (end < 0) return;
    git.stdout.off("data", begin);
    const fields = head.subarray(0, end).toString().split("\\r\\n").map((line) => line.split(": "));
    for (const [name, value] of fields) if (name === "Status") response.statusCode = parseInt(value); else response.setHeader(name, value);
    response.write(head.subarray(end + 4));
    git.stdout.pipe(response);
  };
  git.stdout.on("data", begin);
}).listen(${PORT}, "127.0.0.1");
`;

/** A bare repository of random files in many commits; returns its head and the hash of its archive. */
async function makeRepository(directory: string): Promise<{ head: string; archive: string; files: number }> {
  await run("git", ["init", "-q", "--bare", "-b", "main", directory]);
  await run("git", ["-C", directory, "config", "core.compression", "0"]);
  const files = Math.ceil((REPOSITORY_MB * 1_000_000) / FILE_BYTES);
  const importer = spawn("git", ["-C", directory, "fast-import", "--quiet"], { stdio: ["pipe", "inherit", "inherit"] });
  const ended = new Promise<number | null>((resolve) => importer.on("exit", resolve));
  for (let at = 0; at < files; at += FILES_PER_COMMIT) {
    const parts: (string | Buffer)[] = [`commit refs/heads/main\ncommitter A <a@example.com> ${1_700_000_000 + at} +0000\ndata 2\nc\n`];
    for (let file = at; file < Math.min(files, at + FILES_PER_COMMIT); file += 1)
      parts.push(`M 100644 inline d${file % 40}/f${file}.bin\ndata ${FILE_BYTES}\n`, randomBytes(FILE_BYTES), "\n");
    const data = Buffer.concat(parts.map((part) => Buffer.from(part as Buffer)));
    if (!importer.stdin.write(data)) await new Promise((resolve) => importer.stdin.once("drain", resolve));
  }
  importer.stdin.end();
  expect(await ended).toBe(0);
  const head = (await run("git", ["-C", directory, "rev-parse", "main"])).stdout.trim();
  const hash = createHash("sha256");
  const archive = spawn("git", ["-C", directory, "archive", "--format=tar", "main"], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const data of archive.stdout) hash.update(data as Buffer);
  return { head, archive: hash.digest("hex"), files };
}

describe.skipIf(developerSkipReason() !== undefined)("git clone of a large repository", () => {
  let shop: Workshop;
  let repository: Awaited<ReturnType<typeof makeRepository>>;

  beforeAll(async () => {
    const local = await fs.mkdtemp(path.join(os.tmpdir(), "realwork-git-"));
    try {
      repository = await makeRepository(path.join(local, "large.git"));
      await fs.writeFile(path.join(local, "server.mjs"), SERVER);
      shop = await Workshop.open(DEVELOPER_IMAGE);
      await shop.push("cut", local, "/home/sprite");
      await shop.work("straight", "git config --global --add safe.directory '*'");
      await shop.serve("cd /home/sprite && exec node server.mjs", PORT);
    } finally {
      await fs.rm(local, { recursive: true, force: true });
    }
  });
  afterAll(() => shop?.[Symbol.asyncDispose]());

  const clone = `rm -rf work && git clone --progress http://127.0.0.1:${PORT}/large.git work && cd work && git rev-parse HEAD && git ls-files | wc -l && git status --porcelain | wc -l`;
  const cloned = (): string => `${repository.head}\n${repository.files}\n0\n`;

  test.each(WAYS)("by exec, %s", async (way) => {
    const before = shop.connections;
    expect(await shop.work(way, clone)).toBe(cloned());
    if (way === "cut") expect(shop.connections - before).toBeGreaterThan(3);
  });

  test("by a job that is followed over a network that cuts", async () => {
    expect(await shop.job("cut", clone)).toEqual({ code: 0, out: cloned() });
  });

  test.each(WAYS)("its archive through exec is the one of the source, %s", async (way) => {
    const hash = createHash("sha256");
    const args = ["exec", "-s", shop.name, "--", "git", "-C", "/home/sprite/work", "archive", "--format=tar", "HEAD"];
    const { code, err } = await shop.sprite(way, args, { onOutput: (data) => void hash.update(data) });
    expect([code, err, hash.digest("hex")]).toEqual([0, "", repository.archive]);
  });
});
