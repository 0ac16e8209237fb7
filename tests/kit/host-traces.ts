/**
 * What a home has left on the host, by looking at the host and not at the daemon's word:
 * processes, sockets, namespaces, links, rules, mounts, loop devices, control groups, files.
 * Only things that carry the home's path or id count, so tests may run beside other daemons.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { run, waitFor } from "@sprited/base";
import { expect } from "vitest";
import type { TestHome } from "./prepared-home.ts";

/** What is needed to know a home's things. */
type KnownHome = Pick<TestHome, "layout" | "id">;

/** How long things may take to vanish after they were given back, ms. */
const VANISH_TIMEOUT_MS = 15_000;
const CGROUP_ROOT = "/sys/fs/cgroup";

/** One line per trace, `kind: what`. */
export async function hostTraces(home: KnownHome): Promise<string[]> {
  const { layout, id } = home;
  const found = await Promise.all([
    processes(layout.root),
    linesWith("/proc/net/unix", layout.root, "socket"),
    linesWith("/proc/mounts", `${layout.root}/`, "mount"),
    outputWith("ip", ["netns", "list"], `sprited-${id}`, "netns"),
    outputWith("ip", ["-o", "link", "show"], `sp${id}`, "link"),
    outputWith("nft", ["list", "tables"], id, "nft table"),
    outputWith("losetup", ["--all"], layout.root, "loop"),
    controlGroups(id),
    entries(layout.run, "run directory"),
    entries(layout.sprites, "disk"),
    entries(layout.bootSnapshots, "snapshot").then((lines) => lines.filter((line) => line.endsWith(".tmp"))),
  ]);
  return found.flat().sort();
}

/** Fails unless everything on the host that belongs to `home` is also in `allowed`. */
export async function expectNoTraces(home: KnownHome, allowed: readonly string[] = []): Promise<void> {
  const extra = async (): Promise<string[]> => (await hostTraces(home)).filter((trace) => !allowed.includes(trace));
  await waitFor("traces to vanish", { timeoutMs: VANISH_TIMEOUT_MS, everyMs: 200 }, async () => (await extra()).length === 0).catch(
    () => {},
  );
  expect(await extra()).toEqual([]);
}

/** Ids of the processes whose command line or environment names the home. */
export async function pidsOf(root: string): Promise<{ pid: number; command: string }[]> {
  const found: { pid: number; command: string }[] = [];
  for (const name of await fs.readdir("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    const [command, environment] = await Promise.all([readText(`/proc/${name}/cmdline`), readText(`/proc/${name}/environ`)]);
    const mine = mentions(command, root) || environment.split("\0").includes(`SPRITED_HOME=${root}`);
    if (mine) found.push({ pid, command: command.replaceAll("\0", " ").trim() });
  }
  return found;
}

/** Ids of the VM processes of a home: those that hold a file below its `run` directory on their command line. */
export async function vmPidsOf(home: KnownHome): Promise<number[]> {
  const all = await pidsOf(home.layout.root);
  return all.filter(({ command }) => /qemu-system/.test(command.split(" ")[0] ?? "")).map(({ pid }) => pid);
}

/** Signals a process that may end by itself in the meantime. */
export function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Ends and removes whatever a failed test left; never fails. */
export async function sweepHost(home: KnownHome): Promise<void> {
  for (const { pid } of await pidsOf(home.layout.root)) signalIfThere(pid, "SIGKILL");
  const netns = (await outputWith("ip", ["netns", "list"], `sprited-${home.id}`, "")).map(
    (line) => line.replace(/^: /, "").split(" ")[0] ?? "",
  );
  for (const name of netns) await run("ip", ["netns", "del", name]).catch(() => {});
  const tables = await outputWith("nft", ["list", "tables"], home.id, "");
  for (const line of tables) {
    const [, , family = "", table = ""] = line.split(" ");
    await run("nft", ["delete", "table", family, table]).catch(() => {});
  }
  for (const group of await controlGroups(home.id)) await fs.rmdir(group.replace(/^cgroup: /, "")).catch(() => {});
}

async function processes(root: string): Promise<string[]> {
  return (await pidsOf(root)).map(({ pid, command }) => `process: ${pid} ${command.slice(0, 120)}`);
}

function mentions(text: string, root: string): boolean {
  return text.includes(`${root}/`) || text.split("\0").includes(root);
}

async function linesWith(file: string, text: string, kind: string): Promise<string[]> {
  const lines = (await readText(file)).split("\n").filter((line) => line.includes(text));
  return lines.map((line) => `${kind}: ${line.split(" ").find((part) => part.includes(text)) ?? line}`);
}

async function outputWith(program: string, args: string[], text: string, kind: string): Promise<string[]> {
  const { stdout } = await run(program, args).catch(() => ({ stdout: "" }));
  return stdout
    .split("\n")
    .filter((line) => line.includes(text))
    .map((line) => `${kind}: ${line.trim()}`);
}

async function controlGroups(id: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (directory: string, depth: number): Promise<void> => {
    for (const entry of await fs.readdir(directory, { withFileTypes: true }).catch(() => [])) {
      if (!entry.isDirectory()) continue;
      const at = path.join(directory, entry.name);
      if (entry.name.includes(id)) found.push(`cgroup: ${at}`);
      if (depth > 0) await walk(at, depth - 1);
    }
  };
  await walk(CGROUP_ROOT, 4);
  return found.reverse();
}

async function entries(directory: string, kind: string): Promise<string[]> {
  return (await fs.readdir(directory).catch(() => [])).map((name) => `${kind}: ${name}`);
}

async function readText(file: string): Promise<string> {
  return await fs.readFile(file, "utf8").catch(() => "");
}
