/** Files of a real sprite: owners, root, mounts of the inner Linux, and large streams both ways. */
import { createHash, randomBytes } from "node:crypto";
import http from "node:http";
import { waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw } from "../kit/exec-socket.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { sdkOf, uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";

vi.setConfig({ testTimeout: 240_000, hookTimeout: 300_000 });

const BIG_BYTES = 200_000_000;

describe.skipIf(vmSkipReason() !== undefined)("files of real sprites", () => {
  let daemon: DaemonProcess;
  const name = uniqueName("files");
  const shell = async (script: string): Promise<string> => {
    const result = await execRaw(daemon, name, { cmd: ["sh", "-c", script] });
    return result.stdout.toString() + result.stderr.toString();
  };
  const call = (method: string, what: string, query: Record<string, string>): http.ClientRequest =>
    http.request(`${daemon.baseUrl}/v1/sprites/${name}/fs/${what}?${new URLSearchParams(query).toString()}`, {
      method,
      headers: { authorization: `Bearer ${daemon.token}` },
    });
  const codeOf = async (work: Promise<unknown>): Promise<unknown> =>
    await work.then(
      () => "no error",
      (error: { code?: unknown }) => error.code,
    );

  beforeAll(async () => {
    daemon = await DaemonProcess.open();
    await createSprite(daemon, name);
  });
  afterAll(async () => {
    await daemon?.closeClean().finally(() => daemon[Symbol.asyncDispose]());
  });

  test("[FS-17] [FS-22] a cold sprite wakes; what is written is the user's, with root's rights only when asked", async () => {
    const files = sdkOf(daemon).sprite(name).filesystem("/home/sprite");
    await files.writeFile("mine/f", "text");
    expect(await shell("stat -c %U:%G:%a mine mine/f; cat mine/f")).toBe("sprite:sprite:755\nsprite:sprite:644\ntext");
    expect(await codeOf(files.readFile("/etc/shadow"))).toBe("EACCES");
    expect(await codeOf(files.writeFile("/etc/not-mine", "x"))).toBe("EACCES");
    await files.chown("mine/f", { uid: "root", gid: "root", asRoot: true });
    expect(await shell("stat -c %U:%G mine/f")).toBe("root:root\n");
    expect(await codeOf(files.chown("mine/f", { uid: "sprite" }))).toBe("EPERM");
    await files.rm("mine", { recursive: true, asRoot: true });
    expect(await files.exists("mine/f")).toBe(false);
  });

  test("[FS-20] paths are those of the user's Linux: its mounts are seen, the agent's are not", async () => {
    const files = sdkOf(daemon).sprite(name).filesystem("/");
    await shell("sudo mkdir -p /mnt/m && sudo mount -t tmpfs none /mnt/m && sudo chmod 777 /mnt/m && echo mounted > /mnt/m/f");
    expect(await files.readFile("/mnt/m/f", "utf8")).toBe("mounted\n");
    await files.writeFile("/mnt/m/g", "back");
    expect(await shell("cat /mnt/m/g")).toBe("back");
    expect(await files.readFile("/etc/hostname", "utf8")).toBe(`${name}\n`);
    expect(await codeOf(files.readFile("/usr/lib/sprited/agent/agent.mjs"))).toBe("ENOENT");
    const magic = await fetch(`${daemon.baseUrl}/v1/sprites/${name}/fs/read?path=/proc/1/root/etc/passwd&asRoot=true`, {
      headers: { authorization: `Bearer ${daemon.token}` },
    });
    expect(await magic.json()).toMatchObject({ code: "ELOOP" });
    await shell("sudo umount /mnt/m");
  });

  test("[FS-21] a pipe that nobody writes holds up nothing", async () => {
    const files = sdkOf(daemon).sprite(name).filesystem("/tmp");
    await shell("mkfifo pipe");
    expect(await codeOf(files.readFile("/home/sprite/pipe"))).toBe("EINVAL");
    await files.writeFile("after", "1");
    expect(await files.readFile("after", "utf8")).toBe("1");
  });

  test("[FS-14] a watch sees what commands do", async () => {
    const watcher = await sdkOf(daemon).sprite(name).filesystem("/home/sprite").watch(".", { recursive: true });
    const seen: string[] = [];
    watcher.on("event", (event: { event: string; path: string }) => seen.push(`${event.event} ${event.path}`));
    await shell("mkdir -p w/x && echo 1 > w/x/f && rm -r w");
    await waitFor("events", { timeoutMs: 60_000 }, () => seen.some((one) => one.startsWith("remove") && one.endsWith("/w")));
    watcher.close();
  });

  test("[FS-16] 200 MB stream in and out unchanged", async () => {
    const piece = randomBytes(1_000_000);
    const hash = createHash("sha256");
    const sending = call("PUT", "write", { path: "/home/sprite/big" });
    const answered = new Promise<http.IncomingMessage>((resolve, reject) => sending.once("response", resolve).once("error", reject));
    const startedMs = performance.now();
    for (let bytes = 0; bytes < BIG_BYTES; bytes += piece.length) {
      piece.writeUInt32LE(bytes, 0);
      hash.update(piece);
      if (!sending.write(Buffer.from(piece))) await new Promise((resolve) => sending.once("drain", resolve));
    }
    sending.end();
    expect((await answered).statusCode).toBe(200);
    const sentMs = performance.now();
    const reading = call("GET", "read", { path: "/home/sprite/big" });
    reading.end();
    const response = await new Promise<http.IncomingMessage>((resolve, reject) => reading.once("response", resolve).once("error", reject));
    const back = createHash("sha256");
    for await (const chunk of response) back.update(chunk as Buffer);
    const gotMs = performance.now();
    const expected = hash.digest("hex");
    expect(back.digest("hex")).toBe(expected);
    expect(await shell("sha256sum < big")).toContain(expected);
    const rawMs = performance.now();
    await execRaw(daemon, name, { cmd: ["head", "-c", String(BIG_BYTES), "/dev/zero"] });
    console.log(`exec output of 200 MB: ${Math.round(performance.now() - rawMs)} ms`);
    console.log(`200 MB: push ${Math.round(sentMs - startedMs)} ms, pull ${Math.round(gotMs - sentMs)} ms`);
  });

  test("[FS-23] the sprite stops in order although a file is open and an upload waits", async () => {
    const reading = call("GET", "read", { path: "/home/sprite/big" });
    reading.on("error", () => {});
    reading.end();
    await new Promise((resolve) => reading.once("response", resolve));
    const stopped = await fetch(`${daemon.baseUrl}/v1/sprites/${name}/sleep`, {
      method: "POST",
      headers: { authorization: `Bearer ${daemon.token}`, "content-type": "application/json" },
      body: JSON.stringify({ cold: true }),
    });
    expect(stopped.status).toBe(200);
    reading.destroy();
    expect(await sdkOf(daemon).sprite(name).filesystem("/home/sprite").exists("big")).toBe(true);
  });
});
