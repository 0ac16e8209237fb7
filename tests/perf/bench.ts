/** What every measure works with: a daemon with a template sprite, and the raw thing beside it. */
import fs from "node:fs/promises";
import path from "node:path";
import { run, Scope } from "@sprited/base";
import type { OpenNetworkSlots } from "@sprited/vmm";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw, ExecSocket, RefusedError } from "../kit/exec-socket.ts";
import { findFreeRange } from "../kit/free-range.ts";
import { ask, type Question } from "../kit/http.ts";
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
  /** What counts and sizes of work in VMs are multiplied by, 0 to 1. */
  scale: number;
  /** First line of the VMM's `--version`. */
  version: string;
  place(): Promise<RawPlace>;
  say(line: string): void;
}

/** Scale where the guest's CPU is emulated: tens of times slower. */
const EMULATION_SCALE = 0.05;

/** A daemon, the arguments of one of its VMs, and network places for raw ones. */
export async function openBench(options: { rounds: number; scale?: number | undefined; say: (line: string) => void }): Promise<Bench> {
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
    scale: options.scale ?? (template.args.some((arg) => arg.startsWith("tcg")) ? EMULATION_SCALE : 1),
    version,
    place: () => prepareRawPlace({ directory: rawDirectory, slots, image }),
    say: options.say,
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

/** Creates a sprite and resolves when the first byte of its first command is there. */
export async function createAndEcho(daemon: DaemonProcess, name: string, settings: Record<string, unknown> = {}): Promise<void> {
  await createSprite(daemon, name, settings);
  const exec = await ExecSocket.open(daemon, name, { cmd: ["echo", "hello"], stdin: "false" });
  await exec.until("the answer", () => exec.stream(1).length > 0);
  void exec.end().catch(() => {}); // what follows the answer is not measured
}

/** From asking for a command to the first byte of its answer, ms; resolves when the command has ended. */
export async function echoMs(daemon: DaemonProcess, name: string): Promise<number> {
  const startedMs = performance.now();
  const exec = await ExecSocket.open(daemon, name, { cmd: ["echo", "hello"], stdin: "false" });
  const answered = Promise.withResolvers<number>();
  exec.onOutput = () => answered.resolve(performance.now() - startedMs);
  if (exec.stream(1).length > 0) answered.resolve(performance.now() - startedMs);
  await exec.end();
  answered.reject(new Error(`${name} ended its command without an answer`));
  return await answered.promise;
}

/** Asks and requires one of the statuses. */
export async function askFor(
  daemon: DaemonProcess,
  status: number,
  path: string,
  question: Question,
): Promise<{ json: Record<string, unknown>; text: string }> {
  const answer = await ask(daemon, path, question);
  if (answer.status !== status) throw new Error(`${path} was answered ${answer.status}: ${answer.text.slice(0, 500)}`);
  return { text: answer.text, json: answer.headers["content-type"]?.startsWith("application/json") === true ? answer.json() : {} };
}

export async function sleepSprite(daemon: DaemonProcess, name: string): Promise<void> {
  const { json } = await askFor(daemon, 200, `/v1/sprites/${name}/sleep`, { method: "POST", json: {} });
  if (json["status"] !== "warm") throw new Error(`${name} does not sleep, it is ${String(json["status"])}`);
}

/** Directory of a sprite's disk and memory. */
export async function spriteDirectory(daemon: DaemonProcess, name: string): Promise<string> {
  const { json } = await askFor(daemon, 200, `/v1/sprites/${name}`, {});
  return path.join(daemon.home.layout.sprites, String(json["id"]));
}

/** What the VM of a running sprite was started with. */
export async function templateOf(daemon: DaemonProcess, name: string): Promise<VmTemplate> {
  const directory = await spriteDirectory(daemon, name);
  for (const incarnation of await fs.readdir(daemon.home.layout.run)) {
    const record = path.join(daemon.home.layout.run, incarnation, "vm.json");
    const text = await fs.readFile(record, "utf8").catch(() => "");
    if (!text.includes(`"${directory}/disk.raw"`)) continue;
    const pid = (await fs.readFile(path.join(path.dirname(record), "process"), "utf8")).split("\n")[1]?.split(" ")[0];
    return await readTemplate(Number(pid), record);
  }
  throw new Error(`no VM of ${name} runs`);
}

/** The same for a client that asks again when a wake takes longer than one request waits; says how often it had to. */
export async function createAndEchoPatiently(daemon: DaemonProcess, name: string): Promise<number> {
  await createSprite(daemon, name);
  return await echoPatiently(daemon, name);
}

/** `echo` in a sprite that exists, asked for again when its wake takes longer than one request waits; says how often. */
export async function echoPatiently(daemon: DaemonProcess, name: string): Promise<number> {
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
