import { mkdtemp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { silentLogger } from "@sprited/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Config, loadConfig } from "../config/index.ts";
import { findHolder, LockedError, lockHome } from "../lock.ts";
import type { DaemonPort } from "./daemon-port.ts";
import type { Lifetime, StopReason } from "./lifetime.ts";
import { serve, type ServeOptions } from "./serve.ts";
import { welcome } from "./start.ts";

let directory = "";
let config: Config;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "serve-"));
  config = loadConfig({ environment: { SPRITED_HOME: path.join(directory, "home"), SPRITED_LISTEN: "127.0.0.1:0" } }).config;
});
afterEach(async () => rm(directory, { recursive: true, force: true }));

/** A daemon that only writes down what happens to it. */
function fakeDaemon(events: string[], failure?: Error): DaemonPort {
  return {
    start: async () => {
      events.push("start");
      if (failure) throw failure;
      return { address: { host: "0.0.0.0", port: 4711 }, limitations: [], close: async () => void events.push("close") };
    },
    makeBootSnapshot: async () => undefined,
  };
}

function fakeLifetime(): Lifetime & { end: (reason: StopReason) => void } {
  const { promise, resolve } = Promise.withResolvers<StopReason>();
  return { signal: new AbortController().signal, stopped: promise, end: resolve, [Symbol.dispose]: () => undefined };
}

function options(events: string[], more: Partial<ServeOptions> = {}): ServeOptions & { lifetime: ReturnType<typeof fakeLifetime> } {
  const lifetime = fakeLifetime();
  return {
    config,
    logger: silentLogger,
    daemon: fakeDaemon(events),
    before: async () => void events.push("set-up"),
    onReady: async ({ url }) => {
      events.push(`ready ${url}`);
      lifetime.end({ why: "test", exitCode: 0 });
    },
    ...more,
    lifetime,
  };
}

const lockPath = (): string => path.join(config.home, "lock");

describe("serve", () => {
  it("sets up, starts, tells others where it is, and closes", async () => {
    const events: string[] = [];
    const base = options(events);
    let holder: unknown;
    const exitCode = await serve({
      ...base,
      before: async () => {
        events.push("set-up");
        expect(findHolder(lockPath())?.role).toBe("set-up");
      },
      onReady: async (running) => {
        holder = findHolder(lockPath());
        await base.onReady(running);
      },
    });
    expect(exitCode).toBe(0);
    expect(events).toEqual(["set-up", "start", "ready http://127.0.0.1:4711", "close"]);
    expect(holder).toEqual({ pid: process.pid, role: "daemon", url: "http://127.0.0.1:4711" });
    lockHome(lockPath(), "daemon").release();
  });

  it("does nothing on a home that somebody else holds", async () => {
    const events: string[] = [];
    using _held = lockHome(lockPath(), "daemon");
    await expect(serve(options(events))).rejects.toThrow(LockedError);
    expect(events).toEqual([]);
  });

  it("finds a busy port before the set-up", async () => {
    const events: string[] = [];
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as net.AddressInfo;
    config = { ...config, listen: { host: "127.0.0.1", port } };
    await expect(serve(options(events))).rejects.toMatchObject({ code: "EADDRINUSE", port });
    expect(events).toEqual([]);
    await new Promise((resolve) => server.close(resolve));
  });

  it("gives the lock back when the start fails, and closes the daemon when showing it fails", async () => {
    const events: string[] = [];
    await expect(serve({ ...options(events), daemon: fakeDaemon(events, new Error("no VM")) })).rejects.toThrow("no VM");
    const onReady = async (): Promise<void> => {
      throw new Error("hello failed");
    };
    await expect(serve({ ...options(events), onReady })).rejects.toThrow("hello failed");
    expect(events.at(-1)).toBe("close");
    lockHome(lockPath(), "daemon").release();
  });

  it("without a set-up of its own asks for one where none was done", async () => {
    const { before: _, ...rest } = options([]);
    await expect(serve(rest)).rejects.toMatchObject({ exit: "not_set_up" });
  });

  it("gives token and home to the user behind sudo", async () => {
    const uid = process.getuid?.() ?? 0;
    const gid = process.getgid?.() ?? 0;
    config = { ...config, owner: { uid, gid } };
    await mkdir(config.home);
    await writeFile(path.join(config.home, "token"), "t");
    expect(await serve(options([]))).toBe(0);
    expect(await readFile(path.join(config.home, "token"), "utf8")).toBe("t");
  });
});

describe("welcome", () => {
  it("names the URL, the token and what to type next", () => {
    const text = welcome({ url: "http://127.0.0.1:7780", tokenPath: "/s/token", limitations: ["No KVM."], readyMs: 900 });
    expect(text).toContain("URL    http://127.0.0.1:7780");
    expect(text).toContain("token  /s/token");
    expect(text).toContain("  - No KVM.");
    expect(text).toContain("export SPRITES_API_URL=http://127.0.0.1:7780 SPRITE_TOKEN=$(cat /s/token)");
    expect(text.match(/^ {2}npx sprite /gm)).toHaveLength(2);
  });

  it("asks for no variables where the command finds the daemon by itself", () => {
    const text = welcome({ url: "http://127.0.0.1:7780", tokenPath: "/var/lib/sprited/token", limitations: [], readyMs: 900 });
    expect(text).not.toContain("export");
  });
});
