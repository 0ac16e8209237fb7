/**
 * Everyday work in a small sprite over a network that cuts every connection once a second; what
 * needs a developer's image is in tests/realwork.
 */
import { createHash, randomBytes } from "node:crypto";
import { spawn } from "node:child_process";
import fs from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { collect } from "../e2e/cli-run.ts";
import { freePort } from "../kit/daemon-process.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { Workshop } from "../realwork/workshop.ts";

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const DATA_BYTES = 12_000_000;
const PORT = 8077;
/** Answers every request with a file, at a pace that outlasts a few cuts. */
const SERVER = `perl -e 'use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => ${PORT}, Listen => 8, ReuseAddr => 1) or die;
while (my $c = $s->accept) { while (<$c>) { last if /^\\r?$/ } open my $f, "<", "data"; printf $c "HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n", -s $f;
while (read $f, my $b, 300000) { print $c $b; select undef, undef, undef, 0.1 } close $c }'`;

const sha256 = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");

describe.skipIf(vmSkipReason() !== undefined)("work over a network that cuts", () => {
  let shop: Workshop;
  const data = randomBytes(DATA_BYTES);

  beforeAll(async () => {
    shop = await Workshop.open();
    const file = path.join(shop.home("straight").dir, "data");
    await fs.writeFile(file, data);
    expect(await shop.sprite("cut", ["file", "push", "-s", shop.name, file, "data"])).toMatchObject({ code: 0 });
  });
  afterAll(() => shop?.[Symbol.asyncDispose]());

  test("[REC-1] [REC-2] a tree goes in and out through tar, its input and output whole", async () => {
    const script =
      "mkdir -p in && tar x -C in && sha256sum in/data >&2 && sleep 2 && tar c -C in data | tee copy.tar; sleep 1; sha256sum <copy.tar >&2";
    const tar = spawn("tar", ["c", "-C", shop.home("straight").dir, "data"], { stdio: ["ignore", "pipe", "inherit"] });
    const parts: Buffer[] = [];
    for await (const part of tar.stdout) parts.push(part as Buffer);
    const before = shop.connections;
    const { code, stdout, err } = await shop.shell("cut", script, { input: Buffer.concat(parts) });
    expect([code, err]).toEqual([0, `${sha256(data)}  in/data\n${sha256(stdout)}  -\n`]);
    expect(shop.connections - before).toBeGreaterThan(3);
  });

  test("[PROXY-5] [PROXY-11] a download through sprite proxy is one unbroken connection", async () => {
    await shop.serve(SERVER, PORT);
    const port = await freePort();
    const proxy = shop.home("cut").start(["proxy", "-s", shop.name, `${port}:${PORT}`]);
    try {
      await new Promise((resolve) => proxy.stdout?.once("data", resolve));
      const before = shop.connections;
      using _ = shop.cutting();
      const curl = spawn("curl", ["-sS", `http://127.0.0.1:${port}/data`], { stdio: ["pipe", "pipe", "pipe"] });
      const { code, stdout, err } = await collect(curl, 120_000);
      expect([code, err, sha256(stdout)]).toEqual([0, "", sha256(data)]);
      expect(shop.connections - before).toBeGreaterThan(3);
    } finally {
      proxy.kill("SIGINT");
      await collect(proxy);
    }
  });
});
