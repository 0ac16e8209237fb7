/** Connections into real VMs: loopback of both families, root's servers, ports, and a daemon that is killed meanwhile. */
import { createHash, randomBytes } from "node:crypto";
import type { PortWatchEvent, Sprite } from "@fly/sprites";
import { waitFor } from "@sprited/base";
import { openProxy, type WebSocketLike } from "@sprited/protocol/client";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { PerlServer } from "../kit/perl-server.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { ProxySocket } from "../kit/proxy-socket.ts";
import { sdkOf, uniqueName } from "../kit/target.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 300_000 });

const openSocket = (url: string, headers: Record<string, string>): WebSocketLike =>
  new WebSocket(url, { headers, perMessageDeflate: false }) as unknown as WebSocketLike;

describe.skipIf(vmSkipReason() !== undefined)("connections into a real VM", () => {
  let daemon: DaemonProcess;
  let sprite: Sprite;
  beforeAll(async () => {
    daemon = await DaemonProcess.open();
    sprite = await sdkOf(daemon).createSprite(uniqueName("ports"));
  });
  afterAll(async () => {
    await sprite?.delete();
    await daemon?.[Symbol.asyncDispose]();
  });

  /** Sends a line to `host` inside and gives what comes back. */
  const echoOf = async (host: string, port: number): Promise<string> => {
    const proxy = await ProxySocket.open(daemon, sprite.name, { host, port });
    expect(proxy.answer).toEqual({ status: "connected", target: `${host}:${port}` });
    proxy.send(Buffer.from("hello"));
    await waitFor("the echo", { timeoutMs: 60_000 }, () => proxy.received.length === 5);
    proxy.close();
    return proxy.received.toString();
  };

  test("[CONN-1] servers on 127.0.0.1 and on ::1 are localhost; the machine's own network is not theirs", async () => {
    await using four = await PerlServer.start(sprite, "echo");
    await using six = await PerlServer.start(sprite, "echo", { address: "::1" });
    expect(await echoOf("localhost", four.port)).toBe("hello");
    expect(await echoOf("localhost", six.port)).toBe("hello");
    expect(await echoOf("::1", six.port)).toBe("hello");
    // The agent's own listener lies in another network: nothing there can be reached.
    const agent = await ProxySocket.open(daemon, sprite.name, { host: "192.168.127.2", port: 7781 });
    expect(agent.answer).toMatchObject({ status: "error", code: "target_unreachable" });
  });

  test("[CONN-1] a name is looked up with the sprite's own /etc/hosts", async () => {
    await sprite.execFile("sudo", ["sh", "-c", "echo 127.0.0.1 mine.example >> /etc/hosts"]);
    await using server = await PerlServer.start(sprite, "echo");
    expect(await echoOf("mine.example", server.port)).toBe("hello");
  });

  test("[PORT-2] [PORT-3] ports of the user and of root are seen with their processes", async () => {
    const watcher = await sprite.watchPorts();
    const events: PortWatchEvent[] = [];
    watcher.on("event", (event: PortWatchEvent) => events.push(event));
    await waitFor("the list", { timeoutMs: 60_000 }, () => events.length > 0);
    const mine = await PerlServer.start(sprite, "echo");
    const roots = await PerlServer.start(sprite, "echo", { address: "0.0.0.0", before: ["sudo"] });
    const opened = (port: number) => events.find((event) => event.type === "port_opened" && event.port === port);
    await waitFor("both openings", { timeoutMs: 60_000 }, () => opened(mine.port) !== undefined && opened(roots.port) !== undefined);
    expect(opened(mine.port)).toEqual({ type: "port_opened", port: mine.port, address: "127.0.0.1", pid: mine.pid });
    expect(opened(roots.port)).toEqual({ type: "port_opened", port: roots.port, address: "0.0.0.0", pid: roots.pid });
    expect(await echoOf("localhost", roots.port)).toBe("hello");
    await mine.stop();
    await waitFor("the closing", { timeoutMs: 60_000 }, () =>
      events.some((event) => event.type === "port_closed" && event.port === mine.port),
    );
    watcher.close();
    await roots.stop();
  });

  test("[PROXY-5] a connection goes on at the right byte after kill -9 of the daemon", async () => {
    const server = await PerlServer.start(sprite, "echo");
    const data = randomBytes(6 * 1024 * 1024);
    const chunks: Buffer[] = [];
    let received = 0;
    let losses = 0;
    const connection = await openProxy(
      { baseUrl: daemon.baseUrl, token: daemon.token, sprite: sprite.name, openSocket },
      { host: "localhost", port: server.port },
      {
        data: (bytes, taken) => {
          chunks.push(Buffer.from(bytes));
          received += bytes.length;
          taken();
        },
        eof: () => {},
        lost: () => {
          losses += 1;
        },
      },
    );
    const half = data.length / 2;
    await connection.write(data.subarray(0, half));
    await waitFor("the first bytes", { timeoutMs: 60_000 }, () => received > half / 4);
    await daemon.kill();
    await daemon.start();
    await connection.write(data.subarray(half));
    connection.end();
    await connection.ended;
    expect(losses).toBeGreaterThan(0);
    expect(received).toBe(data.length);
    expect(createHash("sha256").update(Buffer.concat(chunks)).digest("hex")).toBe(createHash("sha256").update(data).digest("hex"));
  });
});
