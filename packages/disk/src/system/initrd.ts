/**
 * The initrd: static busybox, the few modules that lead to the system image, and a script that
 * mounts it and hands over. It finds the image by the serial number of its block device, because
 * the order of virtio-mmio devices is not the order of the command line.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { DiskError } from "../errors.ts";
import { type CpioEntry, cpioArchive } from "./cpio.ts";
import { INITRD_MODULES, loadOrder, moduleName, parseModulesDep } from "./modules.ts";

/** Serial of the block device that holds the system image. */
export const SYSTEM_SERIAL = "system";

/** First program of the system image. */
export const SYSTEM_INIT = "/sbin/sprited-init";

/** The script that is `/init`, loading `modules` in their order. */
export function initScript(modules: readonly string[]): string {
  return `#!/bin/busybox sh
# Finds the read-only system image by its serial and hands over to it.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs dev /dev
for module in ${modules.join(" ")}; do $bb insmod /modules/$module.ko; done
tries=0
while [ $tries -lt 200 ]; do
  for block in /sys/block/vd*; do
    [ "$($bb cat $block/serial 2>/dev/null)" = ${SYSTEM_SERIAL} ] && system=/dev/\${block##*/}
  done
  [ -n "$system" ] && break
  tries=$((tries + 1))
  $bb sleep 0.05
done
if [ -z "$system" ] || ! $bb mount -t erofs -o ro $system /system; then
  echo "sprited: no system image: nothing to boot" >/dev/console
  $bb poweroff -f
fi
$bb mount --move /dev /system/dev
$bb umount /sys
$bb umount /proc
exec $bb switch_root /system ${SYSTEM_INIT}
`;
}

/**
 * The initrd's bytes. `modulesPath` holds uncompressed modules with their `modules.dep`;
 * `busyboxPath` is a static busybox. The archive stays uncompressed: unpacking costs an emulated
 * guest more than reading. Throws `disk_build_failed`.
 */
export async function makeInitrd(modulesPath: string, busyboxPath: string): Promise<Buffer> {
  const index = parseModulesDep(await fs.readFile(path.join(modulesPath, "modules.dep"), "utf8"));
  const modules = loadOrder(index, INITRD_MODULES);
  if (!modules.some((one) => moduleName(one) === "virtio_blk")) {
    throw new DiskError("disk_build_failed", "the kernel has no virtio_blk module: it cannot find its disks");
  }
  const entries: CpioEntry[] = ["bin", "dev", "modules", "proc", "sys", "system"].map((name) => ({
    kind: "directory",
    path: name,
    mode: 0o755,
  }));
  entries.push({ kind: "character", path: "dev/console", mode: 0o600, major: 5, minor: 1 });
  entries.push({ kind: "file", path: "bin/busybox", mode: 0o755, content: await fs.readFile(busyboxPath) });
  entries.push({ kind: "file", path: "init", mode: 0o755, content: Buffer.from(initScript(modules.map(moduleName))) });
  for (const one of modules) {
    entries.push({
      kind: "file",
      path: `modules/${moduleName(one)}.ko`,
      mode: 0o644,
      content: await fs.readFile(path.join(modulesPath, one)),
    });
  }
  return cpioArchive(entries);
}
