import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { waitFor } from "@sprited/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findHolder, LockedError, lockHome } from "./lock.ts";

let home = "";
let lockPath = "";
beforeEach(() => {
  home = mkdtempSync(path.join(tmpdir(), "lock-"));
  lockPath = path.join(home, "deep", "lock");
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const isFree = (): boolean => {
  try {
    lockHome(lockPath, "daemon").release();
    return true;
  } catch (error) {
    if (error instanceof LockedError) return false;
    throw error;
  }
};

/** Another process that takes the lock, says so and waits. */
async function startHolder() {
  const script = `import { lockHome } from ${JSON.stringify(path.join(import.meta.dirname, "lock.ts"))};
    lockHome(${JSON.stringify(lockPath)}, "daemon").describe({ role: "daemon", url: "http://127.0.0.1:7780" });
    console.log("held"); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return child;
}

describe("lockHome", () => {
  it("is held once and free again after release", () => {
    const lock = lockHome(lockPath, "daemon");
    expect(isFree()).toBe(false);
    lock.release();
    lock.release();
    expect(isFree()).toBe(true);
    expect(readdirSync(path.dirname(lockPath))).toEqual(["lock"]);
  });

  it("keeps another process out, says who holds it, and ends with kill -9", async () => {
    const child = await startHolder();
    try {
      expect(() => lockHome(lockPath, "daemon")).toThrow(LockedError);
      expect(() => lockHome(lockPath, "daemon")).toThrow(`the daemon with process id ${child.pid} at http://127.0.0.1:7780`);
    } finally {
      child.kill("SIGKILL");
    }
    await waitFor("the lock to be free", { timeoutMs: 5000 }, isFree);
    expect(findHolder(lockPath)).toBeUndefined();
    expect(readdirSync(path.dirname(lockPath))).toEqual(["lock"]);
  });

  it("believes the lock, not the note beside it", () => {
    lockHome(lockPath, "daemon").release();
    writeFileSync(`${lockPath}.json`, JSON.stringify({ pid: process.pid, role: "daemon" }));
    expect(isFree()).toBe(true);
    const lock = lockHome(lockPath, "daemon");
    writeFileSync(`${lockPath}.json`, "{ torn");
    expect(() => lockHome(lockPath, "set-up")).toThrow("another process");
    lock.release();
  });
});
