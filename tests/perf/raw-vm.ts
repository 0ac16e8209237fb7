/**
 * The raw thing that the product is measured against: QEMU itself with the very arguments and
 * files of a running sprite's VM, started by hand, and a command asked straight on the agent's
 * stream. No daemon, no database, no API, no confinement.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import net from "node:net";
import path from "node:path";
import { ignore, run, Scope, waitFor, withDeadline } from "@sprited/base";
import { bootstrapGuest, type GuestCarrier, type GuestLink, openLink } from "@sprited/daemon";
import { GUEST_GENERATION, MANAGEMENT_NETWORK, USER_NETWORK } from "@sprited/protocol/guest";
import { type NetworkSlot, openNetworkSlots, type OpenNetworkSlots } from "@sprited/vmm";
import { z } from "zod";

const START_TIMEOUT_MS = 120_000;
/** Where device state begins in its file; the bytes before it are the product's own header. */
export const STATE_OFFSET = 4096;

/** First descriptor of a VM's files. */
const FILES_FROM = 3;

/** What a running VM was started with. */
export interface VmTemplate {
  program: string;
  args: string[];
  /** Files by descriptor, from 3 on. */
  files: { fd: number; path: string; flags: "r" | "r+" | "a" }[];
  /** Descriptor of the sprite's own disk. */
  diskFd: number;
  stateFd: number;
  /** Descriptor of the file that memory would be saved to; a raw VM gets one of its own. */
  saveFd: number | undefined;
  /** Descriptor of the RAM of a VM that goes on with a memory of its own; undefined for one that began as the boot snapshot. */
  ownRamFd: number | undefined;
}

/** Whom a raw VM's agent is told to be. */
export interface RawIdentity {
  hostname: string;
  /** 32 hex digits. */
  machine_id: string;
  renew: boolean;
}

const vmRecord = z.object({
  spec: z.object({
    disks: z.array(z.object({ path: z.string(), readOnly: z.boolean() })),
    memory: z.object({
      savePath: z.string().optional(),
      once: z.boolean().optional(),
      snapshot: z.object({ ramPath: z.string(), statePath: z.string() }),
    }),
  }),
});

/** argv of a VM process, and its files in the order in which it got them open, from its own record. */
export async function readTemplate(pid: number, recordPath: string): Promise<VmTemplate> {
  const [program = "", ...own] = (await fs.readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0").slice(0, -1);
  const { disks, memory } = vmRecord.parse(JSON.parse(await fs.readFile(recordPath, "utf8"))).spec;
  const { ramPath, statePath } = memory.snapshot;
  const isOwn = memory.once === true;
  // A raw VM that begins as the boot snapshot maps it itself: nothing can be quicker.
  const args = isOwn ? own : own.map((arg) => arg.replace(/^(memory-backend-file,.*),share=on$/, "$1,share=off,readonly=on,rom=off"));
  const paths = [
    ...disks.map((disk) => ({ path: disk.path, flags: disk.readOnly ? ("r" as const) : ("r+" as const) })),
    isOwn ? { path: ramPath, flags: "r+" as const } : { path: path.join(path.dirname(statePath), "ram"), flags: "r" as const },
    { path: statePath, flags: "r" as const },
    ...(memory.savePath === undefined ? [] : [{ path: memory.savePath, flags: "a" as const }]),
    ...(args.some((arg) => arg.startsWith("kvm,")) ? [{ path: "/dev/kvm", flags: "r+" as const }] : []),
  ];
  const files = paths.map((file, index) => ({ ...file, fd: FILES_FROM + index }));
  const fdOf = (file: string): number => files.find((each) => each.path === file)?.fd ?? -1;
  const disk = disks.find((each) => !each.readOnly);
  if (!disk) throw new Error("the VM has no disk of its own");
  const saveFd = memory.savePath === undefined ? undefined : fdOf(memory.savePath);
  return { program, args, files, diskFd: fdOf(disk.path), stateFd: fdOf(statePath), saveFd, ownRamFd: isOwn ? fdOf(ramPath) : undefined };
}

/** Network places for raw VMs, in a range of their own. */
export async function openRawNetwork(home: string, subnet: string, spare: number): Promise<OpenNetworkSlots> {
  const slots = await openNetworkSlots({ home, layout: { management: MANAGEMENT_NETWORK, user: USER_NETWORK }, subnet, spare, max: 128 });
  await slots.settle();
  return slots;
}

/** Everything a raw VM needs, ready before the clock starts. */
export interface RawPlace extends AsyncDisposable {
  directory: string;
  slot: NetworkSlot;
  diskPath: string;
}

/** Left without an `image` the place has no disk yet. */
export async function prepareRawPlace(options: { directory: string; slots: OpenNetworkSlots; image?: string }): Promise<RawPlace> {
  await using scope = new Scope("raw place");
  const directory = path.join(options.directory, randomBytes(3).toString("hex"));
  await fs.mkdir(directory, { recursive: true });
  scope.defer("directory", () => fs.rm(directory, { recursive: true, force: true }));
  const diskPath = path.join(directory, "disk.raw");
  if (options.image !== undefined) {
    await run("cp", ["--reflink=always", options.image, diskPath]);
    await fs.chmod(diskPath, 0o600);
  }
  const slot = await options.slots.acquire();
  scope.defer("slot", () => options.slots.release(slot));
  const owned = scope.move();
  return { directory, slot, diskPath, [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose]() };
}

export interface RawVm extends AsyncDisposable {
  pid: number;
  link: GuestLink;
}

/** Files of a raw VM that has or makes a memory of its own, below its place. */
export const RAM_FILE = "ram";
export const STATE_FILE = "state";
export const SAVE_FILE = "save";

/** Resumes the snapshot in a prepared place and greets its agent. */
export async function startRawVm(template: VmTemplate, place: RawPlace, identity = newIdentity()): Promise<RawVm> {
  const at = (name: string): string => path.join(place.directory, name);
  const ownPaths = new Map([
    [template.diskFd, place.diskPath],
    [template.saveFd, at(SAVE_FILE)],
    ...(template.ownRamFd === undefined
      ? []
      : ([
          [template.ownRamFd, at(RAM_FILE)],
          [template.stateFd, at(STATE_FILE)],
        ] as const)),
  ]);
  const files = template.files.map((file) => ({ ...file, path: ownPaths.get(file.fd) ?? file.path }));
  const child = await spawnQemu({
    program: template.program,
    args: template.args,
    files,
    directory: place.directory,
    netns: place.slot.netnsPath,
  });
  try {
    await resume(path.join(place.directory, "qmp.sock"), template.stateFd);
    const incarnation = path.basename(place.directory);
    const key = randomBytes(32);
    const carrier: GuestCarrier = {
      openBootPort: async () => await connect(path.join(place.directory, "port-0.sock")),
      link: { kind: "tcp", ...place.slot.agentAddress },
    };
    const link = openLink(carrier, { incarnation, key }, { timeoutMs: START_TIMEOUT_MS });
    link.catch(ignore("awaited below"));
    await bootstrapGuest(
      carrier,
      {
        type: "bootstrap",
        generation: GUEST_GENERATION,
        incarnation,
        key: key.toString("base64"),
        time_ms: Date.now(),
        entropy: randomBytes(64).toString("base64"),
        identity,
        environment: {},
        root_serial: "sprite",
      },
      { timeoutMs: START_TIMEOUT_MS },
    );
    const opened = await link;
    return {
      pid: child.pid ?? 0,
      link: opened,
      [Symbol.asyncDispose]: async () => {
        await opened[Symbol.asyncDispose]();
        await end(child);
      },
    };
  } catch (error) {
    await end(child);
    throw error;
  }
}

/** Another machine's than any before. */
export function newIdentity(): RawIdentity {
  return { hostname: "raw", machine_id: randomBytes(16).toString("hex"), renew: true };
}

/** Boots the kernel with an initrd that only sleeps, in the same machine. */
export async function startBareGuest(
  template: VmTemplate,
  options: { directory: string; kernel: string; commandLine: string; initrd: Buffer },
): Promise<{ pid: number } & AsyncDisposable> {
  await fs.mkdir(options.directory, { recursive: true });
  const initrd = path.join(options.directory, "initrd");
  await fs.writeFile(initrd, options.initrd);
  const args: string[] = [];
  for (let at = 0; at < template.args.length; at += 1) {
    const [name = "", value = ""] = template.args.slice(at, at + 2);
    // Devices with files or taps of a real sprite stay out; a guest that sleeps uses none.
    const isDropped =
      ["-add-fd", "-incoming", "-blockdev", "-netdev"].includes(name) || (name === "-device" && /^virtio-(blk|net)-device/.test(value));
    if (isDropped) at += 1;
    else args.push(name.replace(/^memory-backend-file,(id=\w+,size=\w+),.*$/, "memory-backend-ram,$1"));
  }
  args.push("-kernel", options.kernel, "-initrd", initrd, "-append", options.commandLine);
  const child = await spawnQemu({ program: template.program, args, files: [], directory: options.directory, netns: undefined });
  return {
    pid: child.pid ?? 0,
    [Symbol.asyncDispose]: async () => {
      await end(child);
      await fs.rm(options.directory, { recursive: true, force: true });
    },
  };
}

async function spawnQemu(plan: {
  program: string;
  args: string[];
  files: VmTemplate["files"];
  directory: string;
  netns: string | undefined;
}): Promise<ChildProcess> {
  await using scope = new Scope("files of a raw VM");
  const log = await fs.open(path.join(plan.directory, "log"), "w");
  scope.defer("log", () => log.close());
  const stdio: ("ignore" | number)[] = ["ignore", log.fd, log.fd];
  for (const file of plan.files) {
    const handle = await fs.open(file.path, file.flags);
    scope.defer("file", () => handle.close());
    stdio[file.fd] = handle.fd;
  }
  for (let fd = 0; fd < stdio.length; fd += 1) stdio[fd] ??= "ignore";
  const command = plan.netns === undefined ? [plan.program] : ["nsenter", `--net=${plan.netns}`, "--", plan.program];
  const child = spawn(command[0] ?? "", [...command.slice(1), ...plan.args], { cwd: plan.directory, stdio, detached: true });
  child.on("error", () => {}); // seen as a socket that never comes
  return child;
}

/** Loads the device state over the control socket; the vCPUs run when this resolves. */
async function resume(socketPath: string, stateFd: number): Promise<void> {
  const uri = `file:/dev/fdset/${stateFd},offset=${STATE_OFFSET}`;
  await tellQemu(
    socketPath,
    [
      ["migrate-set-capabilities", capabilities({})],
      ["migrate-incoming", { uri }],
    ],
    '"RESUME"',
  );
}

/** What both ends of a save are told; `mapped`: RAM is written too, each page at its place. */
export function capabilities({ mapped }: { mapped?: boolean }): { capabilities: { capability: string; state: boolean }[] } {
  const names = ["x-ignore-shared", "events", ...(mapped ? ["mapped-ram"] : [])];
  return { capabilities: names.map((capability) => ({ capability, state: true })) };
}

export type QemuCommand = readonly [execute: string, args?: unknown];

/** Sends commands over a VM's control socket without waiting between them, and resolves when `until` shows in what comes back. */
export async function tellQemu(socketPath: string, commands: readonly QemuCommand[], until: string): Promise<void> {
  const socket = await connect(socketPath);
  try {
    await withDeadline("an answer of a raw QEMU", { timeoutMs: START_TIMEOUT_MS }, async () => {
      for (const [execute, args] of [["qmp_capabilities"] as QemuCommand, ...commands])
        socket.write(`${JSON.stringify({ execute, ...(args ? { arguments: args } : {}) })}\n`);
      let text = "";
      for await (const chunk of socket) {
        text += String(chunk);
        if (text.includes(until)) return;
        if (/"error"|"failed"/.test(text)) throw new Error(`QEMU refused: ${text.slice(-500)}`);
      }
      throw new Error(`QEMU ended: ${text.slice(-500)}`);
    });
  } finally {
    socket.destroy();
  }
}

async function connect(socketPath: string): Promise<net.Socket> {
  return await waitFor(`the socket ${path.basename(socketPath)}`, { timeoutMs: START_TIMEOUT_MS, everyMs: 1 }, async () => {
    const socket = net.connect(socketPath);
    return await new Promise<net.Socket | undefined>((resolve) => {
      socket.once("connect", () => resolve(socket));
      socket.once("error", () => resolve(undefined));
    });
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
}

let lastSession = Date.now();

/** Runs a command straight on the agent's stream; calls `onOutput` for each piece of stdout. */
export async function runOnStream(link: GuestLink, argv: string[], onOutput: (data: Uint8Array) => void): Promise<number | null> {
  lastSession += 1;
  const id = String(lastSession);
  const stream = await link.startSession(id, { argv, env: {}, dir: null, tty: null, stdin: false });
  let taken = 0;
  let acknowledged = 0;
  let code: number | null = null;
  for await (const event of stream.events) {
    if (event.type === "output") {
      onOutput(event.data);
      taken += event.data.length;
      if (taken - acknowledged >= 256 * 1024) {
        acknowledged = taken;
        stream.acknowledge({ stdout: taken, stderr: 0 });
      }
    } else if (event.type === "exit") code = event.exit.code;
    else if (event.type === "failed") throw new Error(`the agent refused: ${event.code}`);
  }
  void link.deleteSession(id).catch(ignore("the VM may be gone"));
  return code;
}

/** Resolves with the first byte of an `echo` on the agent's stream. */
export async function firstOutput(vm: RawVm): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    runOnStream(vm.link, ["echo", "hello"], () => resolve()).catch(reject);
  });
}
