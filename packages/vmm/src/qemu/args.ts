/**
 * `VmSpec` → QEMU's argument list. Pure. The same list serves real VMs, boot snapshots and the
 * accelerator's probe, so that what the probe proves holds for what is run.
 *
 * The machine is `microvm`: virtio-mmio devices only, no firmware disk, no PCI. The PIT and the
 * RTC stay, because a guest cannot calibrate its clock without them. Sizes are MiB.
 */
import path from "node:path";
import type { VmSpec } from "../vmm.ts";

export type AcceleratorKind = "kvm" | "tcg";

export interface QemuProgram {
  path: string;
  /** For `-L`; empty: the program's own. */
  dataPaths: readonly string[];
}

export interface ArgsInput {
  spec: VmSpec;
  program: QemuProgram;
  accelerator: AcceleratorKind;
  /** Cache for translated code, MiB; only under emulation. */
  tbSizeMib: number;
}

/** Bytes of guest console that are kept, in memory. */
export const CONSOLE_BYTES = 65_536;

/** Paths inside a VM's directory. Short: a unix socket's path has 107 bytes. */
export function vmPaths(directory: string): { control: string; log: string; record: string; port(index: number): string } {
  return {
    control: path.join(directory, "qmp"),
    log: path.join(directory, "log"),
    record: path.join(directory, "vm.json"),
    port: (index) => path.join(directory, `p${index}`),
  };
}

/** Arguments after the program's name. */
export function qemuArgs(input: ArgsInput): string[] {
  const { spec, program } = input;
  const paths = vmPaths(spec.directory);
  return [
    ...program.dataPaths.flatMap((directory) => ["-L", directory]),
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-S"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-name", `sprited-${spec.incarnation},debug-threads=on`],
    ...["-M", "microvm,pic=off,pit=on,rtc=on,isa-serial=on,memory-backend=ram,x-option-roms=off,acpi=on"],
    ...acceleratorArgs(input),
    ...["-smp", String(spec.shape.cpus), "-m", `${spec.shape.memoryMib}M`],
    ...memoryArgs(spec),
    ...["-kernel", spec.kernel.imagePath, "-initrd", spec.kernel.initrdPath, "-append", spec.kernel.commandLine],
    ...["-chardev", `socket,id=qmp,path=${escape(paths.control)},server=on,wait=off`, "-mon", "chardev=qmp,mode=control"],
    ...["-chardev", `ringbuf,id=console,size=${CONSOLE_BYTES}`, "-serial", "chardev:console"],
    ...["-device", "virtio-rng-device"],
    ...spec.disks.flatMap(diskArgs),
    ...spec.nics.flatMap(nicArgs),
    ...portArgs(spec),
    ...(spec.memory.kind === "snapshot" ? ["-incoming", "defer"] : []),
  ];
}

function acceleratorArgs({ accelerator, tbSizeMib }: ArgsInput): string[] {
  if (accelerator === "kvm") return ["-accel", "kvm", "-cpu", "host,-arch-capabilities"];
  return ["-accel", `tcg,tb-size=${tbSizeMib}`, "-cpu", "max"];
}

/**
 * RAM is a file. A shared mapping makes the file the RAM; a private one is a copy-on-write view
 * of a file that is opened read-only, so that no guest can change what all VMs map.
 */
function memoryArgs(spec: VmSpec): string[] {
  const size = `size=${spec.shape.memoryMib}M`;
  if (spec.memory.kind === "fresh") return ["-object", `memory-backend-file,id=ram,${size},mem-path=${escape(spec.memory.path)},share=on`];
  const mapping = spec.memory.mapping === "private" ? "share=off,readonly=on,rom=off" : "share=on";
  return ["-object", `memory-backend-file,id=ram,${size},mem-path=${escape(spec.memory.snapshot.ramPath)},${mapping}`];
}

function diskArgs(disk: VmSpec["disks"][number], index: number): string[] {
  const readOnly = disk.readOnly ? "on" : "off";
  const file = { driver: "file", "node-name": `file${index}`, filename: disk.path, "read-only": disk.readOnly, discard: "unmap", locking: "off" };
  return [
    ...["-blockdev", JSON.stringify(file)],
    ...["-blockdev", `driver=raw,node-name=disk${index},file=file${index},read-only=${readOnly},discard=unmap,detect-zeroes=unmap`],
    ...["-device", `virtio-blk-device,drive=disk${index},serial=${disk.serial}`],
  ];
}

function nicArgs(nic: VmSpec["nics"][number], index: number): string[] {
  return [
    ...["-netdev", `tap,id=net${index},ifname=${nic.tap},script=no,downscript=no,vhost=off`],
    ...["-device", `virtio-net-device,netdev=net${index},mac=${nic.mac}`],
  ];
}

function portArgs(spec: VmSpec): string[] {
  if (spec.ports.length === 0) return [];
  const paths = vmPaths(spec.directory);
  return [
    ...["-device", "virtio-serial-device"],
    ...spec.ports.flatMap((name, index) => [
      ...["-chardev", `socket,id=port${index},path=${escape(paths.port(index))},server=on,wait=off`],
      ...["-device", `virtserialport,chardev=port${index},name=${name}`],
    ]),
  ];
}

/** QEMU's option parser ends a value at a comma unless it is doubled. */
function escape(value: string): string {
  return value.replaceAll(",", ",,");
}
