/** What every measure works with: a daemon with a template sprite, and the raw thing beside it. */
import fs from "node:fs/promises";
import path from "node:path";
import { run, Scope } from "@sprited/base";
import type { OpenNetworkSlots } from "@sprited/vmm";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw, ExecSocket, RefusedError } from "../kit/exec-socket.ts";
import { findFreeRange } from "../kit/free-range.ts";
import { ask } from "../kit/http.ts";
import { createSprite } from "../kit/tenants.ts";
import { uniqueName } from "../kit/target.ts";
import { openRawNetwork, prepareRawPlace, type RawPlace, readTemplate, type VmTemplate } from "./raw-vm.ts";

export interface Bench extends AsyncDisposable {
  daemon: DaemonProcess;
  template: VmTemplate;
  slots: OpenNetworkSlots;
  /** Kernel command line of the boot snapshot. */
  commandLine: string;
  kernelPath: string;
  rawDirectory: string;
  rounds: number;
  /** First line of the VMM's `--version`. */
  version: string;
  place(): Promise<RawPlace>;
  say(line: string): void;
}

/** A daemon, the arguments of one of its VMs, and network places for raw ones. */
export async function openBench(options: { rounds: number; say: (line: string) => void }): Promise<Bench> {
  await using scope = new Scope("bench");
  const daemon = scope.use("daemon", await DaemonProcess.open({ environment: { SPRITED_LOG_LEVEL: "info" } }));
  options.say("making the boot snapshot …");
  const name = uniqueName("template");
  await createSprite(daemon, name);
  const { stdout } = await execRaw(daemon, name, { cmd: ["cat", "/proc/cmdline"] });
  const [pid] = await daemon.vmPids();
  if (pid === undefined) throw new Error("the template sprite has no VM");
  const [incarnation = ""] = await fs.readdir(daemon.home.layout.run);
  const template = await readTemplate(pid, path.join(daemon.home.layout.run, incarnation, "vm.json"));
  const { digest, image } = await imageOf(daemon);
  await deleteSprite(daemon, name);
  const rawDirectory = path.join(daemon.home.layout.root, "raw");
  await fs.mkdir(rawDirectory);
  const slots = await openRawNetwork(rawDirectory, await findFreeRange(0), 4);
  scope.defer("raw network", () => slots.close());
  const current = (await fs.readFile(path.join(daemon.home.layout.runtime, "system", "current"), "utf8")).trim();
  options.say(`image ${digest.slice(0, 12)}, system ${current.slice(0, 12)}`);
  const version = (await run(template.program, ["--version"])).stdout.split("\n", 1)[0] ?? "";
  const owned = scope.move();
  return {
    daemon,
    template,
    slots,
    commandLine: stdout.toString().trim(),
    kernelPath: path.join(daemon.home.layout.runtime, "system", current, "vmlinuz"),
    rawDirectory,
    rounds: options.rounds,
    version,
    place: () => prepareRawPlace({ directory: rawDirectory, slots, image }),
    say: options.say,
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

/** Creates a sprite and resolves when the first byte of its first command is there. */
export async function createAndEcho(daemon: DaemonProcess, name: string): Promise<void> {
  await createSprite(daemon, name);
  const exec = await ExecSocket.open(daemon, name, { cmd: ["echo", "hello"], stdin: "false" });
  await exec.until("the answer", () => exec.stream(1).length > 0);
  void exec.end().catch(() => {}); // what follows the answer is not measured
}

/** The same for a client that asks again when a wake takes longer than one request waits; says how often it had to. */
export async function createAndEchoPatiently(daemon: DaemonProcess, name: string): Promise<number> {
  await createSprite(daemon, name);
  for (let refusals = 0; ; refusals += 1) {
    try {
      const result = await execRaw(daemon, name, { cmd: ["echo", "hello"] });
      if (result.stdout.toString() !== "hello\n") throw new Error(`${name} answered ${JSON.stringify(result.stdout.toString())}`);
      return refusals;
    } catch (error) {
      if (!(error instanceof RefusedError) || error.status !== 504 || refusals >= 5) throw error;
    }
  }
}

export async function deleteSprite(daemon: DaemonProcess, name: string): Promise<void> {
  const answer = await ask(daemon, `/v1/sprites/${name}`, { method: "DELETE" });
  if (answer.status !== 204) throw new Error(`deleting ${name} was answered ${answer.status}: ${answer.text}`);
}

/** The base image that the daemon clones, as it lies in its pool. */
async function imageOf(daemon: DaemonProcess): Promise<{ digest: string; image: string }> {
  const [digest = ""] = await fs.readdir(daemon.home.layout.images);
  const directory = path.join(daemon.home.layout.images, digest);
  const file = (await fs.readdir(directory)).find((name) => /^image-\d+g\.raw$/.test(name));
  if (!file) throw new Error(`no sized image in ${directory}`);
  return { digest, image: path.join(directory, file) };
}
