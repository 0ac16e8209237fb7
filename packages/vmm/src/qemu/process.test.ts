import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isAlive, launchArgs, logTail, parseIdentity, parseStat, type ProcessIdentity, ProcessWatch } from "./process.ts";

const STAT = "4711 (qemu-system-x86) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 987654 1000 200 18446744073709551615";

describe("who a process is", () => {
  test("is read from its line, whatever its name", () => {
    expect(parseStat(STAT)).toEqual({ pid: 4711, state: "S", startTicks: "987654" });
    fc.assert(
      fc.property(fc.string({ maxLength: 15 }), (name) => {
        expect(parseStat(STAT.replace("qemu-system-x86", () => name))).toEqual({ pid: 4711, state: "S", startTicks: "987654" });
      }),
    );
  });

  test.each(["", "4711", "x (a) S 1", "4711 (a) S 1 2 3", "4711 (a S 1"])("is not read from %j", (line) => {
    expect(parseStat(line)).toBeUndefined();
    expect(parseIdentity(`boot\n${line}\n`)).toBeUndefined();
  });

  test("needs the host's boot too", () => {
    expect(parseIdentity(`boot-1\n${STAT}\n`)).toEqual({ bootId: "boot-1", pid: 4711, startTicks: "987654" });
    expect(parseIdentity(`\n${STAT}\n`)).toBeUndefined();
    expect(parseIdentity(undefined)).toBeUndefined();
  });
});

async function identityOf(pid: number): Promise<ProcessIdentity> {
  const boot = await fs.readFile("/proc/sys/kernel/random/boot_id", "utf8");
  return parseIdentity(`${boot.trim()}\n${await fs.readFile(`/proc/${pid}/stat`, "utf8")}`)!;
}

describe("whether a process lives", () => {
  test("is asked of that very process", async () => {
    const self = await identityOf(process.pid);
    expect(await isAlive(self)).toBe(true);
    expect(await isAlive({ ...self, startTicks: String(Number(self.startTicks) - 1) })).toBe(false);
    expect(await isAlive({ ...self, bootId: "another boot" })).toBe(false);
    expect(await isAlive({ ...self, pid: 4_194_304 })).toBe(false);
  });

  test("another one of the same pid is left alone by kill", async () => {
    const child = spawn("sleep", ["60"], { stdio: "ignore" });
    const identity = await identityOf(child.pid!);
    const watch = new ProcessWatch({ ...identity, startTicks: "1" }, { logPath: "/nowhere" });
    await watch.kill();
    await watch.ended;
    expect(await isAlive(identity)).toBe(true);
    const right = new ProcessWatch(identity, { logPath: "/nowhere" });
    await right.kill();
    await right.ended;
    if (child.signalCode === null) await once(child, "exit");
    expect(child.signalCode).toBe("SIGKILL");
  });
});

describe("a log", () => {
  test("is cut to its end while the process is watched", async () => {
    const directory = await fs.mkdtemp(path.join(tmpdir(), "sprited-log-"));
    const logPath = path.join(directory, "log");
    await fs.writeFile(logPath, `${"x".repeat(400_000)}the end`);
    const watch = new ProcessWatch(await identityOf(process.pid), { logPath });
    await expect.poll(async () => (await fs.stat(logPath)).size, { timeout: 5_000 }).toBe(65_536);
    expect(await logTail(logPath, 7)).toBe("the end");
    watch.close();
    await fs.rm(directory, { recursive: true });
    expect(await logTail(logPath, 7)).toBe("");
  });
});

describe("a launch", () => {
  const plan = {
    program: "/usr/bin/qemu",
    args: ["-m", "$(reboot); 'x'"],
    jail: undefined,
    cgroups: ["/cg/one", "/cg/two"],
    identityPath: "/vm/process",
  };

  test("joins its groups, gives up every right, and takes arguments as they are", () => {
    const [, , , ...rest] = launchArgs({ ...plan, jail: { uid: 7, gid: 8, netnsPath: "/run/netns/n" } });
    expect(rest).toEqual(
      [
        ["/vm/process", "/cg/one", "/cg/two", "--", "nsenter", "--net=/run/netns/n", "--"],
        ["setpriv", "--reuid=7", "--regid=8", "--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"],
        ["/usr/bin/qemu", "-m", "$(reboot); 'x'"],
      ].flat(),
    );
  });

  test("has a constant text: nothing of a VM is ever shell", () => {
    const [, text] = launchArgs(plan);
    expect(launchArgs({ ...plan, program: "other", args: ["x"], cgroups: [], identityPath: "y" })[1]).toBe(text);
  });
});
