/**
 * The agent in a VM: brings up the inner environment, opens the link's listener, warms both, says
 * `idle` on the boot port and then lives on events alone.
 */
import net from "node:net";
import fs from "node:fs";
import os from "node:os";
import type { Duplex } from "node:stream";
import { sleep } from "@sprited/base";
import { BOOT_PORT, LINK_PORT, MANAGEMENT_NETWORK } from "@sprited/protocol/guest";
import { composeAgent } from "./compose.ts";
import { diskSource, InnerEnvironment } from "./inner/environment.ts";
import type { LinkServer } from "./link/link-server.ts";
import { rehearse } from "./rehearsal/rehearse.ts";
import { ProcessTable } from "./spawn/process-table.ts";
import { say } from "./sys/console.ts";
import { dropBoundingCapability } from "./sys/libc.ts";
import { virtualMachine } from "./sys/machine.ts";
import { findVirtioPort, VirtioPort } from "./sys/virtio-port.ts";

const CAP_SYS_MODULE = 16;
const CAP_SYS_RAWIO = 17;

async function main(): Promise<void> {
  // Every command inherits this: modules and raw I/O lead straight into the VM's kernel.
  for (const capability of [CAP_SYS_MODULE, CAP_SYS_RAWIO]) dropBoundingCapability(capability);
  const processes = new ProcessTable();
  await rehearse(processes);
  const environment = new InnerEnvironment(processes, diskSource(processes));
  await environment.prepare();
  const bootPort = openPort(BOOT_PORT);
  if (!bootPort) throw new Error(`the VM has no port ${BOOT_PORT}`);
  const { boot, links, files } = composeAgent({
    processes,
    enclosure: environment.enclosure,
    environment,
    machine: virtualMachine,
    bootPort,
    linkPort: openPort(LINK_PORT),
  });
  await Promise.all([listen(links), files.warm()]);
  // What is garbage now would be a private copy in every VM that resumes this one.
  for (let round = 0; round < 2; round += 1) globalThis.gc?.();
  boot.announceIdle();
  say(`idle after ${fs.readFileSync("/proc/uptime", "utf8").split(" ")[0]} s`);
}

/** Listens on the management NIC; a VM without one has the serial link. */
async function listen(links: LinkServer): Promise<void> {
  const host = MANAGEMENT_NETWORK.guestAddress;
  const isThere = Object.values(os.networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === host));
  if (!isThere) return;
  const listener = net.createServer({ noDelay: true }, (socket) => links.serve(socket));
  await new Promise<void>((resolve, reject) => {
    listener.once("error", reject);
    listener.listen(MANAGEMENT_NETWORK.port, host, resolve);
  });
}

function openPort(name: string): Duplex | undefined {
  const device = findVirtioPort(name);
  return device === undefined ? undefined : new VirtioPort(device);
}

await main();
// Ports and signals do not keep the event loop alive. A wait of weeks costs nothing.
for (;;) await sleep(2 ** 31 - 1);
