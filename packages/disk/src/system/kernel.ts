/**
 * The kernel every VM boots: Debian's stock cloud kernel, unpacked below the home and never
 * installed on the host. A kernel directory is complete or absent; `kernel.json` names the
 * current one.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { run } from "@sprited/base";
import type { PrivateApt } from "../apt/private-apt.ts";
import { DiskError } from "../errors.ts";
import type { HomeLayout } from "../layout/home.ts";
import { removeTree, tempBeside, writeFileAtomic } from "../layout/atomic.ts";
import type { OnProgress } from "../pool/pool.ts";
import { readJson } from "../layout/record.ts";
import { z } from "zod";

const KERNEL_PACKAGE = "linux-image-cloud-amd64";

const kernelRecord = z.object({
  /** Release as `uname -r` has it. */
  release: z.string().min(1),
  /** Version of the Debian package. */
  version: z.string().min(1),
});

export interface Kernel {
  release: string;
  version: string;
  /** Directory with `vmlinuz`, `config` and `modules/`. */
  directory: string;
  imagePath: string;
  /** Directory of the modules: `…/lib/modules/<release>`. */
  modulesPath: string;
}

export interface KernelOptions {
  layout: HomeLayout;
  /** Opened only when something must be fetched. */
  openApt: () => Promise<PrivateApt>;
  onProgress: OnProgress;
  signal?: AbortSignal | undefined;
}

/** The unpacked kernel; undefined before the first set-up. Throws `disk_damaged`. */
export async function findKernel(layout: HomeLayout): Promise<Kernel | undefined> {
  const record = await readJson(path.join(kernelRoot(layout), "kernel.json"), kernelRecord);
  if (!record) return undefined;
  const kernel = kernelAt(layout, record);
  try {
    await fs.access(kernel.imagePath);
    await fs.access(path.join(kernel.modulesPath, "modules.dep"));
  } catch (cause) {
    throw new DiskError("disk_damaged", `the kernel below ${kernel.directory} is incomplete: remove that directory and run set-up again`, {
      cause,
    });
  }
  return kernel;
}

/** Makes sure that a kernel is there; fetches the suite's newest only when there is none. */
export async function ensureKernel(options: KernelOptions): Promise<Kernel> {
  const present = await findKernel(options.layout).catch((error: unknown) => {
    if (error instanceof DiskError && error.code === "disk_damaged") return undefined;
    throw error;
  });
  return present ?? fetchKernel(options);
}

async function fetchKernel({ layout, openApt, onProgress, signal }: KernelOptions): Promise<Kernel> {
  onProgress({ step: "kernel", fraction: 0, detail: "asking Debian for its current cloud kernel" });
  const apt = await openApt();
  const chosen = (await apt.resolve([KERNEL_PACKAGE], { signal })).find((one) => /^linux-image-\d.*-cloud-amd64$/.test(one.name));
  if (!chosen) throw new DiskError("disk_build_failed", `the mirror offers no ${KERNEL_PACKAGE}`);
  const record = { release: chosen.name.slice("linux-image-".length), version: chosen.version };
  const kernel = kernelAt(layout, record);

  onProgress({ step: "kernel", fraction: 0.1, detail: `fetching Linux ${record.release}` });
  const [deb = ""] = await apt.download([`${chosen.name}=${chosen.version}`], { signal });
  onProgress({ step: "kernel", fraction: 0.7, detail: "unpacking" });
  const temp = tempBeside(kernel.directory);
  try {
    await fs.mkdir(temp, { recursive: true });
    await run("dpkg-deb", ["-x", deb, temp], { signal });
    await fs.rename(path.join(temp, "boot", `vmlinuz-${record.release}`), path.join(temp, "vmlinuz"));
    await fs.rename(path.join(temp, "boot", `config-${record.release}`), path.join(temp, "config"));
    await removeTree(path.join(temp, "boot"), temp);
    const modules = path.join("lib", "modules", record.release);
    if (await isDirectory(path.join(temp, "usr", modules))) {
      await fs.mkdir(path.join(temp, "lib", "modules"), { recursive: true });
      await fs.rename(path.join(temp, "usr", modules), path.join(temp, modules));
    }
    await removeTree(path.join(temp, "usr"), temp);
    await run("depmod", ["-b", temp, record.release], { signal });
    await removeTree(kernel.directory, kernelRoot(layout));
    await fs.rename(temp, kernel.directory);
  } finally {
    await removeTree(temp, kernelRoot(layout));
  }
  await writeFileAtomic(path.join(kernelRoot(layout), "kernel.json"), `${JSON.stringify(record)}\n`);
  onProgress({ step: "kernel", fraction: 1, detail: `Linux ${record.release}` });
  return kernel;
}

async function isDirectory(file: string): Promise<boolean> {
  return fs.stat(file).then(
    (stat) => stat.isDirectory(),
    () => false,
  );
}

function kernelRoot(layout: HomeLayout): string {
  return path.join(layout.runtime, "kernel");
}

function kernelAt(layout: HomeLayout, record: z.infer<typeof kernelRecord>): Kernel {
  const directory = path.join(kernelRoot(layout), record.release);
  return {
    ...record,
    directory,
    imagePath: path.join(directory, "vmlinuz"),
    modulesPath: path.join(directory, "lib", "modules", record.release),
  };
}
