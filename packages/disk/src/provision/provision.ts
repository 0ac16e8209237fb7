/**
 * Everything that must be on disk before a VM can boot, in order: kernel, QEMU, system image, base
 * images. Each step is idempotent and leaves either its whole result or nothing, so that a
 * set-up killed anywhere goes on where it stopped, and needs no network once all is there.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { type AptSource, debianSources, openPrivateApt, type PrivateApt } from "../apt/private-apt.ts";
import type { ImageRecord, ImageStore, SystemImage } from "../image/image.ts";
import type { HomeLayout } from "../layout/home.ts";
import { sweepUnfinished } from "../layout/sweep.ts";
import type { OnProgress } from "../pool/pool.ts";
import { buildSystem } from "../system/build.ts";
import { ensureKernel, type Kernel } from "../system/kernel.ts";
import { ensureQemu, type Qemu } from "../system/qemu.ts";

/** Debian release of the guest's kernel and system image. */
export const GUEST_SUITE = "trixie";
export const DEFAULT_MIRROR = "http://deb.debian.org/debian";
export const DEFAULT_SECURITY_MIRROR = "http://deb.debian.org/debian-security";

export interface ProvisionOptions {
  layout: HomeLayout;
  images: ImageStore;
  /** Names of the base images to build. */
  imageNames: readonly string[];
  /** Directory with the bundled agent. */
  agentBundle: string;
  /** Directory laid over the system root. */
  overlayDir: string;
  /** Node for the guest; the one that runs this program when left out. */
  nodePath?: string;
  mirror?: string | undefined;
  securityMirror?: string | undefined;
  onProgress: OnProgress;
  signal?: AbortSignal | undefined;
}

export interface Provisioned {
  kernel: Kernel;
  qemu: Qemu;
  system: SystemImage;
  images: ImageRecord[];
}

/** Runs all steps. Throws `DiskError`; what earlier steps made stays. */
export async function provision(options: ProvisionOptions): Promise<Provisioned> {
  const { kernel, qemu, system } = await provisionRuntime(options);
  const images: ImageRecord[] = [];
  for (const name of options.imageNames) {
    images.push(
      await options.images.build(name, { onProgress: options.onProgress, ...(options.signal ? { signal: options.signal } : {}) }),
    );
  }
  return { kernel, qemu, system, images };
}

/** Kernel, QEMU and system image only. */
export async function provisionRuntime(options: Omit<ProvisionOptions, "images" | "imageNames">): Promise<Omit<Provisioned, "images">> {
  const { layout, agentBundle, overlayDir, onProgress, signal } = options;
  const mirror = options.mirror ?? DEFAULT_MIRROR;
  await sweepUnfinished(layout);
  await fs.mkdir(layout.cache, { recursive: true });
  await fs.mkdir(layout.runtime, { recursive: true });

  let guestApt: Promise<PrivateApt> | undefined;
  const openGuestApt = (): Promise<PrivateApt> => {
    guestApt ??= openUpdated(layout, debianSources(GUEST_SUITE, mirror, options.securityMirror ?? DEFAULT_SECURITY_MIRROR), signal);
    return guestApt;
  };
  const kernel = await ensureKernel({ layout, openApt: openGuestApt, onProgress, signal });
  const qemu = await ensureQemu({
    layout,
    mirror,
    openApt: (sources) => openPrivateApt(path.join(layout.cache, "apt"), sources),
    onProgress,
    signal,
  });
  const system = await buildSystem({
    layout,
    kernel,
    agentBundle,
    overlayDir,
    nodePath: options.nodePath ?? process.execPath,
    openApt: openGuestApt,
    onProgress,
    signal,
  });
  await (await guestApt)?.forgetDownloads();
  return { kernel, qemu, system };
}

/** The private apt over Debian's `suite`, with lists of today. */
async function openUpdated(layout: HomeLayout, sources: AptSource[], signal: AbortSignal | undefined): Promise<PrivateApt> {
  const apt = await openPrivateApt(path.join(layout.cache, "apt"), sources);
  await apt.update({ signal });
  return apt;
}
