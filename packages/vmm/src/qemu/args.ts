/**
 * The argument list of QEMU for one VM. Pure: a spec and facts about the program in, argv out.
 *
 * Invariants: the list for KVM and for TCG differs in `-accel` and `-cpu` alone, so that a probe
 * boot proves what real VMs will run. Every host file is handed over as an open descriptor; QEMU
 * itself resolves only names below its working directory. The order of devices is part of the
 * machine: a memory snapshot fits only the order it was taken with.
 */
import { assert } from "@sprited/base";
import type { VmShape, VmSpec } from "../vmm.ts";

/** Grows with every change of the machine that a guest or a memory snapshot could notice. */
export const MACHINE_REVISION = 1;
/** First descriptor that a VM's files get; 0 to 2 are standard input and output. */
export const FILE_DESCRIPTOR_BASE = 3;
/** Names below QEMU's working directory. */
export const CONTROL_SOCKET = "qmp.sock";
export const STATE_FILE = "state";
/** Where the device state begins in its file; the header before it is ours. */
export const STATE_OFFSET = 4096;
/** Guest console output that QEMU keeps, bytes; a power of two. */
export const CONSOLE_BYTES = 65_536;
/** `id` of the guest's RAM. */
export const RAM_ID = "ram";
/** `id` of the console's character device. */
export const CONSOLE_ID = "console";
/** microvm has this many virtio-mmio transports. */
const VIRTIO_DEVICES_MAX = 8;

/**
 * RAM that QEMU is given, MiB. One less where it would end at exactly 2 GiB: the kernel's header
 * allows an initrd up to there, QEMU puts it there, and the firmware, which keeps the last 24 KiB
 * of RAM for itself, then destroys its end before the kernel reads it.
 */
export function ramMib(shape: VmShape): number {
  return shape.memoryMib === 2048 ? 2047 : shape.memoryMib;
}

/** How QEMU executes guest code. */
export type AcceleratorKind = "kvm" | "tcg";

/** A QEMU on this host. */
export interface QemuProgram {
  path: string;
  /** Firmware directories, searched in order before the built-in one. */
  dataPaths: readonly string[];
}

/** What the list depends on beside the spec. */
export interface ProgramFacts {
  /** Directories of firmware, searched in order before the built-in one. */
  dataPaths: readonly string[];
  accelerator: AcceleratorKind;
  /** Size of the cache of translated code under TCG, MiB. */
  tbSizeMib: number;
  /** Added to the kernel's command line; what this accelerator needs. */
  kernelArguments: readonly string[];
}

/** A file that QEMU gets open. */
export interface VmFile {
  role: "ram" | "disk" | "kernel" | "initrd" | "state" | "kvm" | "save";
  path: string;
  /** `create`: made new, as large as the guest's memory. `append`: for writing alone; QEMU takes no other for what it saves to. */
  access: "create" | "write" | "read" | "append";
}

/**
 * The files of a VM; the n-th becomes descriptor `FILE_DESCRIPTOR_BASE + n`. A resumed VM gets no
 * kernel: it is in the guest's memory already, and reading it again costs a fifth of the start.
 */
export function planFiles(spec: VmSpec, accelerator: AcceleratorKind): VmFile[] {
  const { memory } = spec;
  const files: VmFile[] = spec.disks.map((disk) => ({ role: "disk", path: disk.path, access: disk.readOnly ? "read" : "write" }));
  if (memory.kind === "fresh") {
    files.push(
      { role: "ram", path: memory.path, access: "create" },
      { role: "kernel", path: spec.kernel.imagePath, access: "read" },
      { role: "initrd", path: spec.kernel.initrdPath, access: "read" },
    );
  } else {
    files.push(
      { role: "ram", path: memory.snapshot.ramPath, access: memory.mapping === "shared" ? "write" : "read" },
      { role: "state", path: memory.snapshot.statePath, access: "read" },
    );
    if (memory.mapping === "private" && memory.savePath !== undefined)
      files.push({ role: "save", path: memory.savePath, access: "append" });
  }
  if (accelerator === "kvm") files.push({ role: "kvm", path: "/dev/kvm", access: "write" });
  return files;
}

/** Name of the socket of the n-th port, below QEMU's working directory. */
export function portSocket(index: number): string {
  return `port-${index}.sock`;
}

/** Source of `migrate-incoming` for a VM that resumes. */
export function incomingUri(files: readonly VmFile[]): string {
  return `file:/dev/fdset/${descriptorOf(files, "state")},offset=${STATE_OFFSET}`;
}

/** Target of `migrate` for a VM whose RAM has to be written too. */
export function saveUri(files: readonly VmFile[]): string {
  // QEMU goes to a place in an open file only when one is named.
  return `file:/dev/fdset/${descriptorOf(files, "save")},offset=${STATE_OFFSET}`;
}

/** Asserts what the argument list relies on; a spec that breaks it is a mistake of the caller. */
export function checkSpec(spec: VmSpec): void {
  const { shape } = spec;
  assert(/^[A-Za-z0-9-]{1,64}$/.test(spec.incarnation), "incarnation: letters, digits and dashes");
  assert(Number.isInteger(shape.cpus) && shape.cpus >= 1 && shape.cpus <= 64, "cpus: 1 to 64");
  assert(Number.isInteger(shape.memoryMib) && shape.memoryMib >= 32, "memoryMib: at least 32");
  for (const disk of spec.disks) assert(/^[A-Za-z0-9_.-]{1,20}$/.test(disk.serial), "disk serial: 1 to 20 of A-Z a-z 0-9 _ . -");
  for (const nic of spec.nics) {
    assert(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(nic.mac), "nic mac: six octets");
    assert(/^[A-Za-z0-9_.-]{1,15}$/.test(nic.tap), "nic tap: 1 to 15 of A-Z a-z 0-9 _ . -");
  }
  for (const port of spec.ports) assert(/^[A-Za-z0-9_.-]{1,64}$/.test(port), "port name: 1 to 64 of A-Z a-z 0-9 _ . -");
  assert(new Set(spec.ports).size === spec.ports.length, "port names differ");
  assert(new Set(spec.disks.map((disk) => disk.serial)).size === spec.disks.length, "disk serials differ");
  assert(spec.disks.length + spec.nics.length + 2 <= VIRTIO_DEVICES_MAX, `at most ${VIRTIO_DEVICES_MAX - 2} disks and network cards`);
}

/** argv without the program itself. */
export function qemuArgs(spec: VmSpec, facts: ProgramFacts): string[] {
  checkSpec(spec);
  const files = planFiles(spec, facts.accelerator);
  return [
    // Nothing reads it but people and tests who look for a home's processes.
    ["-name", `guest=${spec.directory.replaceAll(",", ",,")},debug-threads=on`],
    facts.dataPaths.flatMap((path) => ["-L", path]),
    ["-nodefaults", "-no-user-config", "-display", "none"],
    // A machine that its guest ended stays, stopped, until its last words were read (`QemuVm`).
    ["-action", "reboot=shutdown,shutdown=pause"],
    ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    descriptorArgs(files),
    machineArgs(spec, facts, files),
    ["-chardev", `socket,id=qmp,path=${CONTROL_SOCKET},server=on,wait=off`, "-mon", "chardev=qmp,mode=control"],
    ["-chardev", `ringbuf,id=${CONSOLE_ID},size=${CONSOLE_BYTES}`, "-serial", `chardev:${CONSOLE_ID}`],
    portArgs(spec),
    ["-object", "rng-builtin,id=rng", "-device", "virtio-rng-device,rng=rng"],
    diskArgs(spec),
    nicArgs(spec),
    bootArgs(spec, facts, files),
  ].flat();
}

/** Descriptors that QEMU opens by name need a set; the others it reaches through /proc/self/fd. */
function descriptorArgs(files: readonly VmFile[]): string[] {
  return files.flatMap((file, index) => {
    const fd = FILE_DESCRIPTOR_BASE + index;
    return file.role === "disk" || ["state", "kvm", "save"].includes(file.role) ? ["-add-fd", `fd=${fd},set=${fd}`] : [];
  });
}

function machineArgs(spec: VmSpec, facts: ProgramFacts, files: readonly VmFile[]): string[] {
  const { shape, memory } = spec;
  const isPrivate = memory.kind === "snapshot" && memory.mapping === "private";
  // Read-only on the host's side: nothing may ever write into a file that many VMs map.
  const mapping = isPrivate ? "share=off,readonly=on,rom=off" : "share=on";
  const offset = (memory.kind === "snapshot" ? memory.snapshot.ramOffset : undefined) ?? 0;
  return [
    ["-machine", `microvm,pic=off,pit=on,rtc=on,isa-serial=on,memory-backend=${RAM_ID}`],
    acceleratorArgs(facts, files),
    ["-smp", String(shape.cpus), "-m", `${ramMib(shape)}M`],
    [
      "-object",
      [
        `memory-backend-file,id=${RAM_ID},size=${ramMib(shape)}M,mem-path=/proc/self/fd/${descriptorOf(files, "ram")},${mapping}`,
        ...(offset === 0 ? [] : [`offset=${offset}`]),
      ].join(","),
    ],
    // A snapshot is taken of a paused VM; without this it would stay paused after the resume.
    ["-global", "migration.store-global-state=off"],
  ].flat();
}

function acceleratorArgs(facts: ProgramFacts, files: readonly VmFile[]): string[] {
  if (facts.accelerator === "kvm") {
    // `arch-capabilities` aborts QEMU on hosts whose KVM refuses its MSR.
    return ["-accel", `kvm,device=/dev/fdset/${descriptorOf(files, "kvm")}`, "-cpu", "host,arch-capabilities=off"];
  }
  return ["-accel", `tcg,thread=multi,tb-size=${facts.tbSizeMib}`, "-cpu", "max,la57=off"];
}

function portArgs(spec: VmSpec): string[] {
  const ports = spec.ports.flatMap((name, index) => [
    "-chardev",
    `socket,id=port${index},path=${portSocket(index)},server=on,wait=off`,
    "-device",
    `virtserialport,chardev=port${index},name=${name},nr=${index + 1}`,
  ]);
  return ["-device", "virtio-serial-device", ...ports];
}

function diskArgs(spec: VmSpec): string[] {
  return spec.disks.flatMap((disk, index) => {
    const common = `read-only=${disk.readOnly ? "on" : "off"},discard=unmap`;
    return [
      ["-blockdev", `driver=file,node-name=file${index},filename=/dev/fdset/${FILE_DESCRIPTOR_BASE + index},${common}`],
      ["-blockdev", `driver=raw,node-name=disk${index},file=file${index},${common}`],
      ["-device", `virtio-blk-device,drive=disk${index},serial=${disk.serial}`],
    ].flat();
  });
}

function nicArgs(spec: VmSpec): string[] {
  return spec.nics.flatMap((nic, index) => [
    "-netdev",
    `tap,id=net${index},ifname=${nic.tap},script=no,downscript=no`,
    "-device",
    `virtio-net-device,netdev=net${index},mac=${nic.mac}`,
  ]);
}

function bootArgs(spec: VmSpec, facts: ProgramFacts, files: readonly VmFile[]): string[] {
  if (spec.memory.kind === "snapshot") return ["-incoming", "defer"];
  return [
    ["-kernel", `/proc/self/fd/${descriptorOf(files, "kernel")}`, "-initrd", `/proc/self/fd/${descriptorOf(files, "initrd")}`],
    ["-append", [spec.kernel.commandLine, ...facts.kernelArguments].join(" ")],
  ].flat();
}

function descriptorOf(files: readonly VmFile[], role: VmFile["role"]): number {
  const index = files.findIndex((file) => file.role === role);
  assert(index >= 0, `the VM has no ${role} file`);
  return FILE_DESCRIPTOR_BASE + index;
}
