/** Signals that the launch would swallow. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import os from "node:os";
import { expect, test } from "vitest";
import { ignoresWhileLaunching } from "./launching.ts";

const { SIGQUIT, SIGTERM } = os.constants.signals;

test("[SESS-8] a signal is ignored by the launch until the command has begun", async () => {
  const argv = ["sh", "-c", `trap "" QUIT; echo up; read __go; trap - QUIT; exec "$@"`, "sprite", "sleep", "100"];
  const child = spawn("/bin/sh", argv.slice(1), { argv0: "sh", stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(child, "exit");
  try {
    const pid = child.pid ?? 0;
    await once(child.stdout, "data");
    expect(ignoresWhileLaunching(pid, argv, SIGQUIT)).toBe(true);
    expect(ignoresWhileLaunching(pid, argv, SIGTERM)).toBe(false);
    expect(ignoresWhileLaunching(pid, [...argv.slice(0, 2), "another launch"], SIGQUIT)).toBe(false);
    child.stdin.end("go\n");
    await expect.poll(() => ignoresWhileLaunching(pid, argv, SIGQUIT), { timeout: 10_000 }).toBe(false);
    child.kill("SIGQUIT");
    expect((await ended)[1]).toBe("SIGQUIT");
    expect(ignoresWhileLaunching(pid, argv, SIGQUIT)).toBe(false);
  } finally {
    child.kill("SIGKILL");
  }
});
