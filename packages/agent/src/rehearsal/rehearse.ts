/**
 * Goes through everything once before the boot snapshot: bootstrap, entering an inner environment,
 * greeting, commands with pipes and with a terminal, a look for inherited connections. What was
 * compiled, linked and cached on the way is then in the snapshot, and the first command of every
 * sprite finds it there.
 *
 * Invariant: nothing of the rehearsal remains but warm caches; its root is a file system in memory.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { ignore, Scope, withDeadline } from "@sprited/base";
import { type Bootstrap, GUEST_GENERATION } from "@sprited/protocol/guest";
import { composeAgent } from "../compose.ts";
import { DISK_MOUNT, findDisk, mountDisk } from "../inner/disk.ts";
import { InnerEnvironment } from "../inner/environment.ts";
import type { ProcessTable } from "../spawn/process-table.ts";
import { say } from "../sys/console.ts";
import { mount, MS, pipe } from "../sys/libc.ts";
import { virtualMachine } from "../sys/machine.ts";
import { VirtioPort } from "../sys/virtio-port.ts";
import { RehearsalClient } from "./client.ts";

const TIMEOUT_MS = 120_000;
/** Enough for the compiler to have seen what runs for each command. */
const ROUNDS = 25;
const BUSYBOX = "/.sprite/bin/busybox";

/** Rehearses. A failure is told on the console and changes nothing else. */
export async function rehearse(processes: ProcessTable): Promise<void> {
  try {
    await withDeadline("the rehearsal", { timeoutMs: TIMEOUT_MS }, () => play(processes));
  } catch (error) {
    say(`rehearsal: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function play(processes: ProcessTable): Promise<void> {
  await using scope = new Scope("rehearsal");
  const environment = new InnerEnvironment(processes, { mount: mountStandIn });
  await environment.prepare();
  scope.defer("inner environment", () => environment.stop(0));
  const stand = openStandInPort();
  scope.defer("boot port", () => stand.close());
  const { boot, links, sessions } = composeAgent({
    processes,
    enclosure: environment.enclosure,
    environment,
    machine: virtualMachine,
    bootPort: stand.port,
    linkPort: undefined,
  });
  boot.announceIdle();
  const bootstrap = standInBootstrap();
  const listener = net.createServer({ noDelay: true }, (socket) => links.serve(socket));
  await new Promise<void>((resolve, reject) => {
    listener.once("error", reject);
    listener.listen(0, "127.0.0.1", resolve);
  });
  scope.defer("listener", () => void listener.close());
  scope.defer("links", () => links.closeLinks());
  scope.defer("sessions", () => sessions.clear());
  const socket = net.connect((listener.address() as net.AddressInfo).port, "127.0.0.1");
  socket.on("error", ignore("the client's calls tell"));
  const client = new RehearsalClient(socket);
  scope.defer("client", () => client.close());
  const greeted = client.hello(bootstrap.incarnation, Buffer.from(bootstrap.key, "base64"));
  stand.write(`${JSON.stringify({ type: "probe" })}\n${JSON.stringify(bootstrap)}\n`);
  await greeted;
  for (let round = 0; round < ROUNDS; round += 1) {
    await client.run(String(2 * round + 1), { argv: [BUSYBOX, "cat"], tty: null, stdin: true }, "input");
    await client.run(String(2 * round + 2), { argv: [BUSYBOX, "echo", "output"], tty: { cols: 80, rows: 24 }, stdin: true }, "");
  }
  await client.status();
  // A copy of a memory waits for that before its first byte.
  environment.dropInherited({ ...bootstrap, drop_connections: true });
}

/** A root in memory with just enough to be entered. */
async function mountStandIn(): Promise<undefined> {
  fs.mkdirSync(DISK_MOUNT, { recursive: true });
  const standIn = path.join(path.dirname(DISK_MOUNT), "no-disk");
  fs.writeFileSync(standIn, Buffer.alloc(4096));
  await mountDisk(standIn, () => Promise.reject(new Error("not a disk"))).catch(ignore("that it is tried is what matters"));
  try {
    findDisk("rehearsal");
  } catch {
    // There is none; what mattered was to look.
  }
  mount({ source: "rehearsal", target: DISK_MOUNT, type: "tmpfs", flags: MS.NODEV, data: "size=1m" });
  fs.mkdirSync(path.join(DISK_MOUNT, "etc"));
  fs.mkdirSync(path.join(DISK_MOUNT, "home"));
  fs.writeFileSync(path.join(DISK_MOUNT, "etc/passwd"), "sprite:x:1001:1001::/home:/bin/sh\n");
  fs.writeFileSync(path.join(DISK_MOUNT, "etc/group"), "sprite:x:1001:\n");
}

function standInBootstrap(): Bootstrap {
  return {
    type: "bootstrap",
    generation: GUEST_GENERATION,
    incarnation: "rehearsal",
    key: randomBytes(32).toString("base64"),
    time_ms: Date.now(),
    entropy: randomBytes(64).toString("base64"),
    identity: { hostname: "rehearsal", machine_id: "0".repeat(32), renew: true },
    environment: { REHEARSAL: "1" },
    root_serial: "rehearsal",
  };
}

/**
 * A pipe in the place of the boot port: it raises the same signal. What the agent writes comes
 * back to it and is dropped as no request.
 */
function openStandInPort(): { port: VirtioPort; write(text: string): void; close(): void } {
  const { readFd, writeFd } = pipe();
  const port = new VirtioPort(`/proc/self/fd/${readFd}`);
  return {
    port,
    write: (text) => void fs.writeSync(writeFd, text),
    close: () => {
      port.destroy();
      fs.closeSync(readFd);
      fs.closeSync(writeFd);
    },
  };
}
