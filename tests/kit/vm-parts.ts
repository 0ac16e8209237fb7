/**
 * What tests of the VMM alone need: QEMU, kernel and a tiny initial filesystem with the guest of
 * the contract suite, all from the prepared home. No images, no agent.
 */
import fs from "node:fs/promises";
import { findQemu, loadSystem, type Qemu } from "@sprited/disk";
import { findPreparedHome } from "./prepared-home.ts";

export interface VmParts {
  qemu: Qemu;
  kernelPath: string;
  /** Initial filesystem of the system image: busybox, kernel modules. */
  initrdPath: string;
}

/** Throws when the prepared home lacks one of them. */
export async function loadVmParts(): Promise<VmParts> {
  const prepared = findPreparedHome();
  if ("missing" in prepared) throw new Error(prepared.missing);
  const [qemu, system] = await Promise.all([findQemu(prepared.layout), loadSystem(prepared.layout)]);
  if (!qemu || !system) throw new Error(`the prepared home at ${prepared.layout.root} has no QEMU or no system image`);
  return { qemu, kernelPath: system.kernelPath, initrdPath: system.initrdPath };
}

/** The guest of the contract suite (`ContractWorld`) as the first program of a VM. */
function contractInit(port: string): string {
  return `#!/bin/busybox sh
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs dev /dev
for module in virtio_mmio virtio_blk; do $bb insmod /modules/$module.ko; done
port=
while [ -z "$port" ]; do
  for found in /sys/class/virtio-ports/*; do
    [ "$($bb cat $found/name 2>/dev/null)" = ${port} ] && port=/dev/\${found##*/}
  done
  [ -n "$port" ] || $bb sleep 0.05
done
exec 3<>$port
number=0
while :; do
  while read -r what nonce <&3; do
    case $what in
      add) number=$((number + 1)); echo "$nonce $number" >&3 ;;
      get) echo "$nonce $number" >&3 ;;
      off) $bb reboot -f ;;
      panic) echo "$nonce" >/dev/console; echo c >/proc/sysrq-trigger ;;
    esac
  done
  # Nobody holds the host's end now.
  $bb sleep 0.02
done
`;
}

/** Writes an initial filesystem that boots into the contract suite's guest on `port`. */
export async function writeContractInitrd(parts: VmParts, port: string, target: string): Promise<void> {
  // The kernel unpacks archives one after another; a later file replaces an earlier one.
  await fs.writeFile(target, Buffer.concat([await fs.readFile(parts.initrdPath), cpioArchive("init", contractInit(port))]));
}

/** An archive in the kernel's format (newc) of one executable. */
function cpioArchive(name: string, content: string): Buffer {
  const data = Buffer.from(content);
  return Buffer.concat([cpioEntry(name, 0o100755, data), cpioEntry("TRAILER!!!", 0, Buffer.alloc(0))]);
}

function cpioEntry(name: string, mode: number, data: Buffer): Buffer {
  const fields = [1, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length + 1, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}${name}\0`;
  return Buffer.concat([padded(Buffer.from(header)), padded(data)]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
