import { AssertionError } from "@sprited/base";
import { describe, expect, test } from "vitest";
import type { VmSpec } from "../vmm.ts";
import { incomingUri, planFiles, type ProgramFacts, qemuArgs, ramMib } from "./args.ts";

const FACTS: ProgramFacts = {
  dataPaths: ["/fw/one", "/fw/two"],
  accelerator: "tcg",
  tbSizeMib: 64,
  kernelArguments: ["tsc_early_khz=2596120"],
};

function spec(change: Partial<VmSpec> = {}): VmSpec {
  return {
    incarnation: "abc123",
    directory: "/run/abc123",
    shape: { cpus: 2, memoryMib: 512 },
    kernel: { imagePath: "/k/vmlinuz", initrdPath: "/k/initrd", commandLine: "console=ttyS0 quiet" },
    disks: [
      { serial: "system", path: "/d/system", readOnly: true },
      { serial: "sprite", path: "/d/sprite", readOnly: false },
    ],
    nics: [{ mac: "52:54:00:00:00:01", tap: "mgmt" }],
    ports: ["sprited.boot", "sprited.link"],
    memory: { kind: "fresh", path: "/r/ram" },
    ...change,
  };
}

function snapshot(mapping: "private" | "shared"): VmSpec["memory"] {
  return {
    kind: "snapshot",
    mapping,
    snapshot: { ramPath: "/s/ram", statePath: "/s/state", build: "b", shape: { cpus: 2, memoryMib: 512 } },
  };
}

/** Values of an option, in order. */
function values(args: readonly string[], option: string): string[] {
  return args.flatMap((arg, index) => (arg === option ? [args[index + 1] ?? ""] : []));
}

describe("files of a VM", () => {
  test("of a cold start: disks, new RAM, kernel", () => {
    expect(planFiles(spec(), "tcg").map(({ role, access }) => `${role} ${access}`)).toEqual([
      "disk read",
      "disk write",
      "ram create",
      "kernel read",
      "initrd read",
    ]);
  });

  test("of a resume: the RAM is opened for reading alone when the mapping is private; no kernel", () => {
    const accesses = (mapping: "private" | "shared"): string[] =>
      planFiles(spec({ memory: snapshot(mapping) }), "tcg").map(({ role, access }) => `${role} ${access}`);
    expect(accesses("private")).toEqual(["disk read", "disk write", "ram read", "state read"]);
    expect(accesses("shared")).toEqual(["disk read", "disk write", "ram write", "state read"]);
  });
});

describe("QEMU's arguments", () => {
  test("of a cold start", () => {
    const args = qemuArgs(spec(), FACTS);
    expect(values(args, "-L")).toEqual(["/fw/one", "/fw/two"]);
    expect(values(args, "-append")).toEqual(["console=ttyS0 quiet tsc_early_khz=2596120"]);
    expect(values(args, "-kernel")).toEqual(["/proc/self/fd/6"]);
    expect(values(args, "-initrd")).toEqual(["/proc/self/fd/7"]);
    expect(values(args, "-accel")).toEqual(["tcg,thread=multi,tb-size=64"]);
    expect(values(args, "-smp")).toEqual(["2"]);
    expect(values(args, "-object")[0]).toBe("memory-backend-file,id=ram,size=512M,mem-path=/proc/self/fd/5,share=on");
    expect(args).not.toContain("-incoming");
  });

  test("of a resume have no kernel, wait for the state, and map private RAM so that nothing can write it", () => {
    const resumed = spec({ memory: snapshot("private") });
    const args = qemuArgs(resumed, FACTS);
    expect(values(args, "-incoming")).toEqual(["defer"]);
    expect(args).not.toContain("-kernel");
    expect(args).not.toContain("-append");
    expect(values(args, "-object")[0]).toBe("memory-backend-file,id=ram,size=512M,mem-path=/proc/self/fd/5,share=off,readonly=on,rom=off");
    expect(incomingUri(planFiles(resumed, "tcg"))).toBe("file:/dev/fdset/6,offset=4096");
    expect(values(args, "-add-fd")).toEqual(["fd=3,set=3", "fd=4,set=4", "fd=6,set=6"]);
    expect(values(qemuArgs(spec({ memory: snapshot("shared") }), FACTS), "-object")[0]).toMatch(/mem-path=\/proc\/self\/fd\/5,share=on$/);
  });

  test("for KVM and TCG differ in accelerator and CPU alone, so that a probe proves what runs", () => {
    const rest = (args: string[]): string[] => args.filter((_, index) => !["-accel", "-cpu", "-add-fd"].includes(args[index - 1] ?? ""));
    const kvm = qemuArgs(spec(), { ...FACTS, accelerator: "kvm" });
    expect(rest(kvm).filter((arg) => arg !== "-add-fd")).toEqual(rest(qemuArgs(spec(), FACTS)).filter((arg) => arg !== "-add-fd"));
    expect(values(kvm, "-accel")).toEqual(["kvm,device=/dev/fdset/8"]);
    expect(values(kvm, "-cpu")).toEqual(["host,arch-capabilities=off"]);
  });

  test("name disks by serial, keep system disks read-only and give freed blocks back", () => {
    const args = qemuArgs(spec(), FACTS);
    expect(values(args, "-blockdev").filter((value) => value.startsWith("driver=file"))).toEqual([
      "driver=file,node-name=file0,filename=/dev/fdset/3,read-only=on,discard=unmap",
      "driver=file,node-name=file1,filename=/dev/fdset/4,read-only=off,discard=unmap",
    ]);
    expect(values(args, "-device").filter((value) => value.startsWith("virtio-blk"))).toEqual([
      "virtio-blk-device,drive=disk0,serial=system",
      "virtio-blk-device,drive=disk1,serial=sprite",
    ]);
  });

  test("let QEMU see no path of the host but below its own directory, and confine it", () => {
    const args = qemuArgs(spec({ memory: snapshot("shared") }), FACTS).filter((arg) => !arg.startsWith("guest=/run/abc123"));
    for (const path of ["/d/", "/s/", "/r/", "/k/", "/run/"]) expect(args.join(" ")).not.toContain(path);
    expect(values(args, "-sandbox")).toEqual(["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
    expect(values(args, "-chardev")).toContain("ringbuf,id=console,size=65536");
  });

  test("a comma in the directory cannot add an option", () => {
    expect(values(qemuArgs(spec({ directory: "/run/a,process=b" }), FACTS), "-name")).toEqual(["guest=/run/a,,process=b,debug-threads=on"]);
  });

  test("RAM never ends at exactly 2 GiB", () => {
    expect([1024, 2048, 4096].map((memoryMib) => ramMib({ cpus: 1, memoryMib }))).toEqual([1024, 2047, 4096]);
  });

  test.each<[string, Partial<VmSpec>]>([
    ["a serial that the guest would see cut off", { disks: [{ serial: "x".repeat(21), path: "/d", readOnly: true }] }],
    [
      "two disks of one serial",
      {
        disks: [
          { serial: "a", path: "/1", readOnly: true },
          { serial: "a", path: "/2", readOnly: true },
        ],
      },
    ],
    ["an option in a tap's name", { nics: [{ mac: "52:54:00:00:00:01", tap: "a,script=/x" }] }],
    ["an option in a MAC", { nics: [{ mac: "52:54:00:00:00:01,x=y", tap: "a" }] }],
    ["an option in a port's name", { ports: ["a,chardev=b"] }],
    ["two ports of one name", { ports: ["a", "a"] }],
    ["a path in the incarnation", { incarnation: "../x" }],
    ["half a CPU", { shape: { cpus: 0.5, memoryMib: 512 } }],
    ["no memory", { shape: { cpus: 1, memoryMib: 0 } }],
    ["more devices than the machine has room for", { nics: Array.from({ length: 5 }, () => ({ mac: "52:54:00:00:00:01", tap: "a" })) }],
  ])("refuse %s", (_what, change) => {
    expect(() => qemuArgs(spec(change), FACTS)).toThrow(AssertionError);
  });
});
