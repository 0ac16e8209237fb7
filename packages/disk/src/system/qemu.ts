/**
 * The QEMU that VMs run on. Hosts whose own QEMU is new enough use it; Debian 12 gets the
 * one from bookworm-backports, unpacked below the home: its libraries are those of the
 * installed package, the host's package state stays as it is.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, run } from "@sprited/base";
import { z } from "zod";
import type { AptSource, PrivateApt } from "../apt/private-apt.ts";
import { DiskError } from "../errors.ts";
import { removeTree, tempBeside, writeFileAtomic } from "../layout/atomic.ts";
import type { HomeLayout } from "../layout/home.ts";
import type { OnProgress } from "../pool/pool.ts";
import { readJson } from "../layout/record.ts";

/** Oldest QEMU that is used as it is: opens boot snapshots read-only. */
const QEMU_PREFERRED: readonly [number, number] = [8, 2];
const QEMU_PACKAGES = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];
const HOST_PROGRAM = "/usr/bin/qemu-system-x86_64";
const PROGRAM = "usr/bin/qemu-system-x86_64";

const qemuRecord = z.object({ version: z.string(), packages: z.array(z.string()) });

export interface Qemu {
  /** The program. */
  programPath: string;
  /** Directories for `-L`; empty for the host's own. */
  dataPaths: string[];
  /** First line of `--version`. */
  version: string;
  origin: "host" | "private";
}

export interface QemuOptions {
  layout: HomeLayout;
  /** Private apt over `backportsSources`. */
  openApt: (sources: AptSource[]) => Promise<PrivateApt>;
  mirror: string;
  onProgress: OnProgress;
  signal?: AbortSignal | undefined;
}

/** `QEMU emulator version 10.0.2 (…)` → [10, 0]; undefined for anything else. */
export function parseQemuVersion(output: string): [number, number] | undefined {
  const match = /^QEMU emulator version (\d+)\.(\d+)/m.exec(output);
  return match ? [Number(match[1]), Number(match[2])] : undefined;
}

/** What to do about QEMU on this host. */
export function planQemu(host: {
  version: readonly [number, number] | undefined;
  codename: string;
}): "host" | "backports" | "host-old" | "missing" {
  if (host.version === undefined) return "missing";
  const [major, minor] = host.version;
  if (major > QEMU_PREFERRED[0] || (major === QEMU_PREFERRED[0] && minor >= QEMU_PREFERRED[1])) return "host";
  return host.codename === "bookworm" ? "backports" : "host-old";
}

/** The QEMU to use, without fetching anything; undefined when set-up has not run or none is installed. */
export async function findQemu(layout: HomeLayout): Promise<Qemu | undefined> {
  const directory = qemuDirectory(layout);
  const record = await readJson(path.join(directory, "qemu.json"), qemuRecord);
  if (record) return privateQemu(directory, record.version);
  const version = await hostVersion();
  return version === undefined ? undefined : { programPath: HOST_PROGRAM, dataPaths: [], version, origin: "host" };
}

/** Makes sure that a usable QEMU is there. Throws `disk_build_failed`. */
export async function ensureQemu(options: QemuOptions): Promise<Qemu> {
  const { layout, onProgress } = options;
  const directory = qemuDirectory(layout);
  const record = await readJson(path.join(directory, "qemu.json"), qemuRecord);
  if (record) return privateQemu(directory, record.version);

  const version = await hostVersion();
  const plan = planQemu({ version: parseQemuVersion(version ?? ""), codename: await codename() });
  if (version === undefined || plan === "missing")
    throw new DiskError("disk_build_failed", "QEMU is not installed: install the package qemu-system-x86");
  if (plan === "backports") return unpackBackports(options);
  onProgress({ step: "qemu", fraction: 1, detail: version });
  return { programPath: HOST_PROGRAM, dataPaths: [], version, origin: "host" };
}

async function unpackBackports(options: QemuOptions): Promise<Qemu> {
  const { layout, mirror, onProgress, signal } = options;
  const directory = qemuDirectory(layout);
  onProgress({ step: "qemu", fraction: 0, detail: "Debian 12's QEMU is old: fetching the one from bookworm-backports" });
  const apt = await options.openApt([
    { uri: mirror, suite: "bookworm" },
    { uri: mirror, suite: "bookworm-backports" },
  ]);
  if (!(await apt.hasLists())) await apt.update({ signal });
  const debs = await apt.download(
    QEMU_PACKAGES.map((name) => `${name}/bookworm-backports`),
    { signal },
  );
  onProgress({ step: "qemu", fraction: 0.7, detail: "unpacking" });
  const temp = tempBeside(directory);
  try {
    await fs.mkdir(temp, { recursive: true });
    for (const deb of debs) await run("dpkg-deb", ["-x", deb, temp], { signal });
    const { stdout } = await run(path.join(temp, PROGRAM), ["--version"], { signal });
    const version = stdout.split("\n", 1).join("");
    await writeFileAtomic(
      path.join(temp, "qemu.json"),
      `${JSON.stringify({ version, packages: debs.map((deb) => path.basename(deb)) }, undefined, 1)}\n`,
    );
    await removeTree(directory, layout.runtime);
    await fs.rename(temp, directory);
    await apt.forgetDownloads();
    onProgress({ step: "qemu", fraction: 1, detail: version });
    return privateQemu(directory, version);
  } finally {
    await removeTree(temp, layout.runtime);
  }
}

function privateQemu(directory: string, version: string): Qemu {
  return {
    programPath: path.join(directory, PROGRAM),
    dataPaths: [path.join(directory, "usr/share/qemu"), path.join(directory, "usr/share/seabios")],
    version,
    origin: "private",
  };
}

async function hostVersion(): Promise<string | undefined> {
  const result = await run(HOST_PROGRAM, ["--version"]).catch(ignore("not installed"));
  return result?.stdout.split("\n", 1).join("");
}

async function codename(): Promise<string> {
  const text = await fs.readFile("/etc/os-release", "utf8").catch(ignore("not a host that needs backports"));
  return /^VERSION_CODENAME=(\w+)$/m.exec(text ?? "")?.[1] ?? "";
}

function qemuDirectory(layout: HomeLayout): string {
  return path.join(layout.runtime, "qemu");
}
