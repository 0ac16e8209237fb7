/** `sprite proxy` as a process, against a whole simulated daemon over a wire that can be cut. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { waitFor } from "@sprited/base";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { freePort } from "../kit/free-port.ts";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";
import { createSprite } from "../kit/tenants.ts";
import { CliHome, collect } from "./cli-run.ts";
import { Wire } from "./cli-wire.ts";

vi.setConfig({ testTimeout: 60_000 });

let target: SimulatedTarget;
let wire: Wire;
let home: CliHome;
const servers: net.Server[] = [];

beforeAll(async () => {
  target = await openSimulated();
  await createSprite(target, "dev");
  wire = await Wire.open(Number(new URL(target.baseUrl).port));
  home = await CliHome.make({ SPRITES_API_URL: `http://127.0.0.1:${wire.port}`, SPRITE_TOKEN: target.token });
}, 60_000);
afterAll(async () => {
  wire.close();
  await home.remove();
  await target[Symbol.asyncDispose]();
});
const children: ReturnType<CliHome["start"]>[] = [];
beforeEach(() => wire.reset());
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const server of servers.splice(0)) server.close();
});

async function serve(serveSocket: (socket: net.Socket) => void): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    serveSocket(socket);
  });
  server.listen(0, "127.0.0.1");
  servers.push(server);
  await once(server, "listening");
  return (server.address() as net.AddressInfo).port;
}

/** Starts `sprite proxy` and waits for a line for each port. */
async function proxy(...mappings: string[]): Promise<{ err: () => string; out: () => string; child: ReturnType<CliHome["start"]> }> {
  const child = home.start(["proxy", "-s", "dev", ...mappings]);
  children.push(child);
  let [out, err] = ["", ""];
  child.stdout?.on("data", (data: Buffer) => (out += data.toString()));
  child.stderr?.on("data", (data: Buffer) => (err += data.toString()));
  await waitFor("the ports", { timeoutMs: 20_000 }, () => out.split("\n").length > mappings.length);
  return { child, out: () => out, err: () => err };
}

async function talk(port: number, data: Uint8Array | string): Promise<Buffer> {
  const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.end(data);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

describe("sprite proxy", () => {
  test("[PROXY-9] several ports, shown as they work, half-closes included, until Ctrl-C", async () => {
    const echo = await serve((socket) => socket.pipe(socket));
    const late = await serve((socket) => {
      let all = "";
      socket.on("data", (data: Buffer) => (all += data.toString()));
      socket.on("end", () => socket.end(`heard ${all}`));
    });
    const [one, two] = [await freePort(), await freePort()];
    const running = await proxy(`${one}:${echo}`, `${two}:127.0.0.1:${late}`);
    expect(running.out()).toBe(`localhost:${one} → dev:${echo}\nlocalhost:${two} → 127.0.0.1:${late} in dev\n`);
    expect((await talk(one, "echo")).toString()).toBe("echo");
    expect((await talk(two, "to the end")).toString()).toBe("heard to the end");
    running.child.kill("SIGINT");
    const [code] = (await once(running.child, "exit")) as [number];
    expect([code, running.err()]).toEqual([0, ""]);
  });

  test("[PROXY-9] a busy local port is an error that names another", async () => {
    const busy = await serve(() => {});
    const result = await home.run(["proxy", "-s", "dev", String(busy)]);
    expect(result).toMatchObject({ code: 1, out: "" });
    expect(result.err).toContain(`Port ${busy} of this computer is in use by another program.`);
    expect(result.err).toContain(`sprite proxy ${busy + 1}:${busy}`);
    expect((await home.run(["proxy", "-s", "dev"])).code).toBe(2);
  });

  test("[PROXY-10] -W joins standard input and output with a port", async () => {
    const echo = await serve((socket) => socket.pipe(socket));
    const input = randomBytes(3_000_000);
    const result = await home.run(["proxy", "-s", "dev", "-W", `:${echo}`], { input });
    expect([result.code, result.err]).toEqual([0, ""]);
    expect(result.stdout.equals(input)).toBe(true);
  });

  test("[PROXY-10] -W ends only when a slow reader has every byte", async () => {
    const bytes = randomBytes(700_000);
    let isSent = false;
    const source = await serve((socket) => void socket.end(bytes, () => (isSent = true)));
    const child = home.start(["proxy", "-s", "dev", "-W", `:${source}`]);
    children.push(child);
    child.stdin?.end();
    await waitFor("all bytes to be on their way", { timeoutMs: 20_000 }, () => isSent);
    await sleep(1000);
    const result = await collect(child);
    expect([result.code, result.err]).toEqual([0, ""]);
    expect(result.stdout.equals(bytes)).toBe(true);
  });

  test("[PROXY-11] open connections go on at the right byte when the connection to the server is cut", async () => {
    const echo = await serve((socket) => socket.pipe(socket));
    const local = await freePort();
    const running = await proxy(`${local}:${echo}`);
    wire.cutEvery = 4_000_000;
    const data = randomBytes(8_000_000);
    const results = await Promise.all([talk(local, data), talk(local, data)]);
    for (const result of results)
      expect(createHash("sha256").update(result).digest("hex")).toBe(createHash("sha256").update(data).digest("hex"));
    expect(wire.cuts).toBeGreaterThanOrEqual(4);
    expect(running.err()).toMatch(
      /^sprite: connection to dev lost; trying again, Ctrl-C leaves\nsprite: connected to dev again after \d+ s\n/,
    );
  });

  test("[PROXY-12] where nothing listens the local side breaks, one line says why, and the port lives on", async () => {
    const local = await freePort();
    const gone = await freePort();
    const running = await proxy(`${local}:${gone}`);
    for (let round = 1; round <= 2; round += 1) {
      await expect(talk(local, "x")).rejects.toMatchObject({ code: expect.stringMatching(/ECONNRESET|EPIPE/) });
      await waitFor("the line", { timeoutMs: 10_000 }, () => running.err().split("\n").length === round + 1);
    }
    expect(running.err().split("\n")[0]).toBe(`sprite: localhost:${local} → dev:${gone}: Connection refused: nothing listens there.`);
    running.child.kill("SIGTERM");
    expect((await collect(running.child)).code).toBe(143);
  });
});
