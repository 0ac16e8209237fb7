/** The simulated driver passes the same suite as real ones. */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { openSimulatedDriver, type SimulatedGuest, SimulatedHost } from "../fake/index.ts";
import { vmPaths } from "../qemu/record.ts";
import { vmmContract } from "./contract.ts";
import { CONTRACT_PORT, type ContractWorld } from "./world.ts";

const guest: SimulatedGuest = async ({ ports, memory, powerOff }) => {
  const port = ports.get(CONTRACT_PORT)!;
  let received = "";
  port.on("data", (chunk: Buffer) => {
    received += chunk.toString();
    for (let end = received.indexOf("\n"); end >= 0; end = received.indexOf("\n")) {
      const [what, nonce] = received.slice(0, end).split(" ");
      received = received.slice(end + 1);
      if (what === "off") return powerOff();
      if (what === "add") memory.write(String(Number(memory.read()) + 1));
      port.write(`${nonce} ${Number(memory.read())}\n`);
    }
  });
  return { [Symbol.asyncDispose]: async () => {} };
};

async function openWorld(): Promise<ContractWorld> {
  const host = new SimulatedHost();
  const directory = await fs.mkdtemp(path.join(tmpdir(), "sprited-contract-"));
  const disk = path.join(directory, "disk");
  await fs.writeFile(disk, "");
  return {
    directory,
    driver: openSimulatedDriver({ guest, host }),
    reopen: async () => openSimulatedDriver({ guest, host }),
    machine: () => ({
      shape: { cpus: 1, memoryMib: 32 },
      kernel: { imagePath: "none", initrdPath: "none", commandLine: "" },
      disks: [{ serial: "disk", path: disk, readOnly: false }],
      nics: [],
      ports: [CONTRACT_PORT],
    }),
    crash: (vm) => host.crash(vm.incarnation),
    async recyclePid(vm) {
      await host.crash(vm.incarnation);
      const bystander = await openSimulatedDriver({ guest, host }).start({
        ...vm.spec,
        incarnation: `bystander${randomBytes(4).toString("hex")}`,
        directory: path.join(directory, "bystander"),
        memory: { kind: "fresh", path: path.join(directory, "bystander-ram") },
      });
      const identity = JSON.parse(await fs.readFile(vmPaths(vm.spec.directory).process, "utf8")) as object;
      await fs.writeFile(vmPaths(vm.spec.directory).process, JSON.stringify({ ...identity, pid: bystander.pid }));
      return { bystanderLives: async () => host.running().some((machine) => machine.spec.incarnation === bystander.incarnation) };
    },
    cutOffStart: (vm) => fs.rm(vmPaths(vm.spec.directory).started),
    traces: async () => host.running().map((machine) => machine.spec.incarnation),
    [Symbol.asyncDispose]: () => fs.rm(directory, { recursive: true, force: true }),
  };
}

vmmContract("the simulated driver", openWorld);
