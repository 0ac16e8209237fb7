/** QEMU passes the contract suite, confined as real VMs are; and what only a real process can show. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { ignore, run, silentLogger, sleep } from "@sprited/base";
import { openQemuDriver, type VmJail, type VmmDriver, type VmProcess } from "@sprited/vmm";
import { askGuest, CONTRACT_PORT, type ContractWorld, vmmContract } from "@sprited/vmm/contract";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { signalIfThere } from "../kit/host-traces.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { loadVmParts, writeContractInitrd } from "../kit/vm-parts.ts";

/** Of nobody: no user of a host has it. */
const JAIL_ID = 2_900_001;
const MEMORY_MIB = 128;

async function openWorld(): Promise<ContractWorld> {
  const parts = await loadVmParts();
  const directory = await fs.mkdtemp(path.join(tmpdir(), "sprited-contract-"));
  const netns = `sprited-contract-${process.pid}`;
  await run("ip", ["netns", "add", netns]);
  const jail: VmJail = { uid: JAIL_ID, gid: JAIL_ID, netnsPath: `/run/netns/${netns}` };
  const initrdPath = path.join(directory, "initrd");
  await writeContractInitrd(parts, CONTRACT_PORT, initrdPath);
  const disk = path.join(directory, "disk.raw");
  await fs.writeFile(disk, "");
  await fs.truncate(disk, 64 * 1024 * 1024);
  const { programPath, dataPaths, version } = parts.qemu;
  const reopen = (): Promise<VmmDriver> =>
    openQemuDriver({
      program: { path: programPath, dataPaths },
      version,
      accelerator: { kind: "tcg", reason: "tests" },
      tbSizeMib: 32,
      logger: silentLogger,
    });
  const driver = await reopen();
  const world: ContractWorld = {
    directory,
    driver,
    reopen,
    machine: () => ({
      shape: { cpus: 1, memoryMib: MEMORY_MIB },
      kernel: {
        imagePath: parts.kernelPath,
        initrdPath,
        commandLine: "console=ttyS0 quiet tsc=reliable random.trust_cpu=1 panic=-1 reboot=t",
      },
      disks: [{ serial: "disk", path: disk, readOnly: true }],
      nics: [],
      ports: [CONTRACT_PORT],
      jail,
    }),
    crash: async (vm) => endProcess(vm.pid),
    async recyclePid(vm) {
      await endProcess(vm.pid);
      const bystander = spawn("sleep", ["600"], { stdio: "ignore" });
      const file = path.join(vm.spec.directory, "process");
      await fs.writeFile(file, (await fs.readFile(file, "utf8")).replace(/^\d+ /m, `${bystander.pid} `));
      return {
        async bystanderLives() {
          const lives = bystander.exitCode === null && bystander.signalCode === null;
          bystander.kill();
          await once(bystander, "exit");
          return lives;
        },
      };
    },
    cutOffStart: (vm) => fs.rm(path.join(vm.spec.directory, "started")),
    traces: () => tracesBelow(directory),
    async [Symbol.asyncDispose]() {
      await world.driver.close();
      for (const trace of await processesBelow(directory)) signalIfThere(trace.pid, "SIGKILL");
      for (const group of await groupsOfContract()) await fs.rmdir(group).catch(ignore("its process is still ending"));
      await run("ip", ["netns", "delete", netns]);
      await fs.rm(directory, { recursive: true, force: true });
    },
  };
  return world;
}

async function endProcess(pid: number): Promise<void> {
  process.kill(pid, "SIGKILL");
  for (;;) {
    const stat = await fs.readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
    if (stat === "" || /\) Z /.test(stat)) return;
  }
}

async function processesBelow(directory: string): Promise<{ pid: number; command: string }[]> {
  const found: { pid: number; command: string }[] = [];
  for (const name of await fs.readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const command = await fs.readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "");
    if (command.includes(directory)) found.push({ pid: Number(name), command });
  }
  return found;
}

/** Control groups of this file's VMs; empty when none is left. */
async function groupsOfContract(): Promise<string[]> {
  const names = await fs.readdir("/sys/fs/cgroup", { recursive: true, withFileTypes: true });
  return names
    .filter((entry) => entry.isDirectory() && /\bcontract[0-9a-f]{8}$/.test(entry.name))
    .map((entry) => path.join(entry.parentPath, entry.name));
}

async function tracesBelow(directory: string): Promise<string[]> {
  const processes = (await processesBelow(directory)).map(({ command }) => `process ${command}`);
  return [...processes, ...(await groupsOfContract()).map((name) => `cgroup ${name}`)];
}

describe.skipIf(vmSkipReason() !== undefined)("with real VMs", () => {
  vmmContract("the QEMU driver", openWorld);

  describe("the last words of a guest whose kernel panics", () => {
    let world: ContractWorld;
    beforeAll(async () => {
      world = await openWorld();
    });
    afterAll(async () => {
      await world?.[Symbol.asyncDispose]();
    });

    async function boot(incarnation: string): Promise<VmProcess> {
      const directory = path.join(world.directory, incarnation);
      const memory = { kind: "fresh", path: path.join(world.directory, `ram-${incarnation}`) } as const;
      const vm = await world.driver.start({ ...world.machine(), incarnation, directory, memory });
      expect(await askGuest(vm, "add")).toBe(1);
      return vm;
    }

    async function panic(vm: VmProcess, words: string): Promise<void> {
      const port = await vm.openPort(CONTRACT_PORT);
      port.resume().write(`panic ${words}\n`);
      await once(port, "close");
    }

    test("are part of why it ended", async () => {
      const vm = await boot("panic1");
      await panic(vm, "farewell-1");
      const exit = await vm.exited;
      expect(exit.kind).toBe("guest");
      expect(exit.detail).toMatch(/farewell-1[\s\S]*Kernel panic - not syncing/);
      await vm.dispose();
    });

    test("are found by the next program run when none ran meanwhile", async () => {
      const before = await boot("panic2");
      await world.driver.close();
      const port = await before.openPort(CONTRACT_PORT);
      port.resume().write("panic farewell-2\n");
      await sleep(2_000);
      world.driver = await world.reopen();
      const vm = await world.driver.adopt(before.spec.directory);
      expect(await vm?.exited).toMatchObject({ kind: "guest", detail: expect.stringContaining("farewell-2") });
      await vm?.dispose();
      expect(await world.traces()).toEqual([]);
    });
  });
});
