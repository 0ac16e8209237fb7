/** TCP connections and ports through the unmodified official client, and our extension raw. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import type { PortWatchEvent, Sprite } from "@fly/sprites";
import { waitFor } from "@sprited/base";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PerlServer } from "../kit/perl-server.ts";
import { ProxySocket } from "../kit/proxy-socket.ts";
import { sdkOf, type Target, uniqueName } from "../kit/target.ts";
import { freePort } from "../kit/free-port.ts";

/** What is sent through one connection where it is much, bytes: emulated machines are slow. */
const MUCH: Record<Target["kind"], number> = { simulated: 64 * 1024 * 1024, vm: 8 * 1024 * 1024 };

export function portCalls(target: () => Target): void {
  let sprite: Sprite;
  let echo: PerlServer;
  beforeAll(async () => {
    sprite = await sdkOf(target()).createSprite(uniqueName("ports"));
    echo = await PerlServer.start(sprite, "echo");
  }, 120_000);
  afterAll(async () => {
    await echo?.stop();
    await sprite?.delete();
  });

  /** Runs `work` with a local port forwarded by the official client. */
  const forwarded = async (remotePort: number, work: (localPort: number) => Promise<void>, host?: string): Promise<void> => {
    const localPort = await freePort();
    const proxy = await sprite.proxyPort(localPort, remotePort, host);
    try {
      await work(localPort);
    } finally {
      proxy.close();
    }
  };

  test("[PROXY-1] proxyPort: bytes go there and back", async () => {
    await forwarded(echo.port, async (localPort) => {
      const socket = net.connect(localPort, "localhost");
      socket.write("hello");
      const [data] = (await once(socket, "data")) as [Buffer];
      expect(data.toString()).toBe("hello");
      socket.destroy();
    });
  });

  test("[PROXY-1] [PROXY-3] a server that speaks first and closes is heard to its last byte", async () => {
    await using greeter = await PerlServer.start(sprite, "greet");
    await forwarded(greeter.port, async (localPort) => {
      for (let round = 0; round < 20; round += 1) {
        const chunks: Buffer[] = [];
        for await (const chunk of net.connect(localPort, "localhost")) chunks.push(chunk as Buffer);
        expect(Buffer.concat(chunks).toString()).toBe("220 welcome\r\n");
      }
    });
  });

  test("[PROXY-1] proxyPorts: several at once, also to an address", async () => {
    const [one, two] = [await freePort(), await freePort()];
    const proxies = await sprite.proxyPorts([
      { localPort: one, remotePort: echo.port },
      { localPort: two, remotePort: echo.port, remoteHost: "127.0.0.1" },
    ]);
    try {
      for (const port of [one, two, one]) {
        const socket = net.connect(port, "localhost");
        socket.write(`to ${port}`);
        expect(String((await once(socket, "data"))[0])).toBe(`to ${port}`);
        socket.destroy();
      }
    } finally {
      for (const proxy of proxies) proxy.close();
    }
  });

  test("[PROXY-2] where nothing listens the local connection is closed", async () => {
    await forwarded(1, async (localPort) => {
      const socket = net.connect(localPort, "localhost");
      socket.on("error", () => {});
      await once(socket, "close");
    });
    const refused = await ProxySocket.open(target(), sprite.name, { host: "localhost", port: 1 });
    expect(refused.answer).toEqual({
      status: "error",
      target: "localhost:1",
      error: "connection refused: nothing listens there",
      code: "target_unreachable",
    });
    await refused.closed();
    expect(refused.closeCode).toBe(1000);
  });

  test("[PROXY-3] what a client sent before it closed arrives", async () => {
    await using keeper = await PerlServer.start(sprite, "keep");
    for (let round = 0; round < 5; round += 1) {
      const proxy = await ProxySocket.open(target(), sprite.name, { host: "localhost", port: keeper.port });
      proxy.send(Buffer.from(`round ${round}\n`));
      proxy.close();
      await waitFor("the line", { timeoutMs: 20_000 }, () => keeper.output().includes(`round ${round}\n`));
    }
  });

  test("[PROXY-5] [PROXY-7] a resumable connection is cut at random bytes and loses none", { timeout: 300_000 }, async () => {
    const sent = randomBytes(MUCH[target().kind]);
    const cuts = target().kind === "vm" ? 20 : 200;
    const result = await ProxySocket.sendThroughCuts(target(), sprite.name, { port: echo.port, data: sent, cuts });
    expect(result.cuts).toBeGreaterThan(cuts / 2);
    expect(result.received.length).toBe(sent.length);
    expect(createHash("sha256").update(result.received).digest("hex")).toBe(createHash("sha256").update(sent).digest("hex"));
    expect(result.eof).toBe(true);
  });

  test("[PORT-3] watchPorts: the list, then what is opened and closed", async () => {
    const watcher = await sprite.watchPorts();
    const events: PortWatchEvent[] = [];
    watcher.on("event", (event: PortWatchEvent) => events.push(event));
    try {
      await waitFor("the list", { timeoutMs: 20_000 }, () => events.length > 0);
      expect(events[0]).toMatchObject({ type: "port_list" });
      const late = await PerlServer.start(sprite, "echo");
      const seen = (type: string) => events.find((event) => event.type === type && (event as { port?: number }).port === late.port);
      await waitFor("the opening", { timeoutMs: 20_000 }, () => seen("port_opened") !== undefined);
      expect(seen("port_opened")).toEqual({ type: "port_opened", port: late.port, address: "127.0.0.1", pid: late.pid });
      await late.stop();
      await waitFor("the closing", { timeoutMs: 20_000 }, () => seen("port_closed") !== undefined);
    } finally {
      watcher.close();
    }
  });
}
