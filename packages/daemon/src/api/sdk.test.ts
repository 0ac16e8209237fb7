import { SpritesClient } from "@fly/sprites";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openTestbed, type Testbed } from "./testing/testbed.ts";

/** The unmodified official SDK; the same against real VMs is in tests/conformance. */
let bed: Testbed;
let client: SpritesClient;
beforeAll(async () => {
  bed = await openTestbed();
  client = new SpritesClient(bed.token, { baseURL: bed.server.url });
  await client.createSprite("box");
});
afterAll(() => bed[Symbol.asyncDispose]());

describe("the official SDK", () => {
  it("creates, reads, lists, updates, checks, restarts and deletes", async () => {
    const sprite = await client.createSprite("sdk-1", {
      config: { ramMB: 512, cpus: 1, region: "iad", storageGB: 10 },
      environment: { myKey: "v" },
      labels: ["x"],
      urlSettings: { auth: "public" },
    });
    expect(sprite).toMatchObject({
      name: "sdk-1",
      status: "cold",
      config: { ramMB: 512, cpus: 1, storageGB: 10 },
      environment: { myKey: "v" },
      labels: ["x"],
      organizationName: "acme",
    });
    expect((await client.getSprite("sdk-1")).createdAt).toBeInstanceOf(Date);
    const list = await client.listSprites({ prefix: "sdk-" });
    expect(list).toMatchObject({ hasMore: false, organizationName: "acme", sprites: [expect.objectContaining({ name: "sdk-1" })] });
    expect((await client.listAllSprites()).map(({ name }) => name)).toEqual(["box", "sdk-1"]);
    expect((await client.updateSprite("sdk-1", { labels: [], urlSettings: { auth: "sprite" } })).labels).toEqual([]);
    expect(await client.checkSprite("sdk-1")).toMatchObject({ spriteName: "sdk-1", status: "hibernated" });
    expect(await client.restartSprite("sdk-1")).toMatchObject({ spriteName: "sdk-1", machineId: expect.any(String) });
    await client.upgradeSprite("sdk-1");
    await client.deleteSprite("sdk-1");
    await expect(client.getSprite("sdk-1")).rejects.toThrow(/sdk-1/);
  });

  it("[API-2] gets structured errors", async () => {
    await expect(client.createSprite("box")).rejects.toMatchObject({ statusCode: 409, errorCode: "sprite_name_taken" });
    await expect(client.createSprite("Bad Name")).rejects.toThrow(/upper-case|contains/);
  });

  it("[API-14] watches", async () => {
    const stream = await client.watchSprites();
    for await (const event of stream) {
      expect(event).toMatchObject({ name: "box", organization: { name: "acme" } });
      break;
    }
  });

  it("[API-16] runs commands: output, exit codes, input, in parallel", async () => {
    const box = client.sprite("box");
    expect(await box.execFile("echo", ["hello"])).toMatchObject({ stdout: "hello\n", stderr: "", exitCode: 0 });
    await expect(box.execFile("both", [])).rejects.toMatchObject({ exitCode: 3, stdout: "out\n", stderr: "err\n" });
    const many = await Promise.all(Array.from({ length: 10 }, (_, i) => box.execFile("echo", [String(i)])));
    expect(many.map(({ stdout }) => stdout)).toEqual(Array.from({ length: 10 }, (_, i) => `${i}\n`));
    const cat = box.spawn("cat");
    await new Promise((resolve) => cat.once("spawn", resolve));
    const chunks: Buffer[] = [];
    cat.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    cat.stdin.end("line 1\nline 2\n");
    expect(await cat.wait()).toBe(0);
    expect(Buffer.concat(chunks).toString()).toBe("line 1\nline 2\n");
  });

  it("[API-16] runs terminals: success is 0, failure is not", async () => {
    const box = client.sprite("box");
    const good = box.spawn("echo", ["hi"], { tty: true });
    expect(await good.wait()).toBe(0);
    const bad = box.spawn("exit", ["3"], { tty: true });
    expect(await bad.wait()).toBe(1);
  });

  it("signals, lists, attaches and kills sessions", async () => {
    const box = client.sprite("box");
    const first = box.spawn("sleep", [], { tty: true });
    await new Promise((resolve) => first.once("spawn", resolve));
    await expect.poll(async () => (await box.listSessions()).length).toBe(1);
    const [session] = await box.listSessions();
    const attached = box.attachSession(session!.id);
    await new Promise((resolve) => attached.once("spawn", resolve));
    const events = [];
    for await (const event of await box.killSession(session!.id, "SIGINT", "5s")) events.push(event.type);
    expect(events).toEqual(["signal", "exited", "complete"]);
    expect(await attached.wait()).toBe(1);
  });

  // The official framing is nothing but pauses (API-22): a reader that a busy host holds up for that long merges frames.
  it("[API-22] runs commands over HTTP, again and again", { retry: 3 }, async () => {
    const box = client.sprite("box");
    for (let i = 0; i < 10; i += 1)
      await expect(box.execFileHTTP("both", [])).rejects.toMatchObject({ exitCode: 3, stdout: "out\n", stderr: "err\n" });
    expect(await box.execFileHTTP("cat", [], { input: "in" })).toMatchObject({ stdout: "in", exitCode: 0 });
    expect((await box.execFileHTTP("flood", ["100000"])).stdout.length).toBe(100_000);
  });

  it("[API-4] falls back to direct exec in control mode", async () => {
    const controlled = new SpritesClient(bed.token, { baseURL: bed.server.url, controlMode: true });
    expect(await controlled.sprite("box").execFile("echo", ["x"])).toMatchObject({ stdout: "x\n" });
  });
});
