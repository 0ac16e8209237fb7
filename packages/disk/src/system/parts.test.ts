import { execFileSync } from "node:child_process";
import fs from "node:fs/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SYSTEM_DIRECTORIES, SYSTEM_LINKS, SYSTEM_PROGRAMS } from "./contents.ts";
import { cpioArchive, type CpioEntry } from "./cpio.ts";
import { readElf } from "./elf.ts";
import { initScript } from "./initrd.ts";
import { loadOrder, moduleName, parseModulesDep, selectModules } from "./modules.ts";
import { parseQemuVersion, planQemu } from "./qemu.ts";

/** Reads an archive back: the form is simple enough to do it by the book. */
function readCpio(archive: Buffer): { path: string; mode: number; content: Buffer; device: string }[] {
  const members = [];
  for (let at = 0; ;) {
    const field = (index: number): number => Number.parseInt(archive.toString("latin1", at + 6 + index * 8, at + 14 + index * 8), 16);
    expect(archive.toString("latin1", at, at + 6)).toBe("070701");
    const name = archive.toString("utf8", at + 110, at + 110 + field(11) - 1);
    const start = Math.ceil((at + 110 + field(11)) / 4) * 4;
    const end = start + field(6);
    if (name === "TRAILER!!!") return members;
    members.push({ path: name, mode: field(1), content: archive.subarray(start, end), device: `${field(9)}:${field(10)}` });
    at = Math.ceil(end / 4) * 4;
  }
}

describe("cpioArchive", () => {
  it("holds directories, files, links and devices, all of root", () => {
    const entries: CpioEntry[] = [
      { kind: "directory", path: "dev", mode: 0o755 },
      { kind: "character", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
      { kind: "symlink", path: "sh", target: "bin/busybox" },
      { kind: "file", path: "init", mode: 0o755, content: Buffer.from("#!") },
    ];
    const members = readCpio(cpioArchive(entries));
    expect(members.map(({ path, mode }) => [path, mode.toString(8)])).toEqual([
      ["dev", "40755"],
      ["dev/console", "20600"],
      ["sh", "120777"],
      ["init", "100755"],
    ]);
    expect(members[1]!.device).toBe("5:1");
    expect(members[2]!.content.toString()).toBe("bin/busybox");
  });

  it("gives back any content, and equal bytes for equal content", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.stringMatching(/^[a-z]{1,20}$/), fc.uint8Array({ maxLength: 50 })), { maxLength: 6 }), (files) => {
        const entries: CpioEntry[] = files.map(([path, content]) => ({ kind: "file", path, mode: 0o644, content }));
        const archive = cpioArchive(entries);
        expect(readCpio(archive).map((one) => [one.path, [...one.content]])).toEqual(files.map(([path, content]) => [path, [...content]]));
        expect(cpioArchive(entries).equals(archive)).toBe(true);
      }),
    );
  });
});

describe("modules", () => {
  const index = parseModulesDep(
    [
      "kernel/drivers/block/virtio_blk.ko.xz:",
      "kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz",
      "kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz",
      "kernel/net/core/failover.ko.xz:",
      "kernel/drivers/char/hw_random/virtio-rng.ko.xz:",
      "kernel/net/sched/sch_fq.ko.xz:",
      "kernel/sound/core.ko.xz:",
      "",
    ].join("\n"),
  );

  it("[IMG-12] loads dependencies first, each once, and passes over what is built in", () => {
    expect(loadOrder(index, ["virtio_net", "virtio-rng", "ext4", "virtio_blk"]).map(moduleName)).toEqual([
      "failover",
      "net_failover",
      "virtio_net",
      "virtio_rng",
      "virtio_blk",
    ]);
  });

  it("selects folders and single modules with what they need", () => {
    expect(selectModules(index, ["kernel/net/sched/", "kernel/drivers/net/virtio_net"]).map(moduleName).sort()).toEqual([
      "failover",
      "net_failover",
      "sch_fq",
      "virtio_net",
    ]);
  });
});

describe("the initrd's script", () => {
  const script = initScript(["virtio_mmio", "virtio_blk", "erofs"]);

  it("[IMG-12] is a shell script that looks for the serial and hands over", () => {
    execFileSync("sh", ["-n"], { input: script });
    expect(script).toContain('" = system ]');
    expect(script).toContain("exec $bb switch_root /system /sbin/sprited-init");
    expect(script).toContain("for module in virtio_mmio virtio_blk erofs;");
  });
});

describe("readElf", () => {
  it("tells libraries and loader of a program, and nothing of other files", async () => {
    const facts = readElf(await fs.readFile("/bin/sh"));
    expect(facts?.needed).toContain("libc.so.6");
    expect(facts?.interpreter).toMatch(/ld-linux/);
    expect(readElf(await fs.readFile("/etc/os-release"))).toBeUndefined();
    expect(readElf(Buffer.alloc(0))).toBeUndefined();
  });
});

describe("planQemu", () => {
  it.each([
    [[10, 0], "bookworm", "host"],
    [[8, 2], "noble", "host"],
    [[7, 2], "bookworm", "backports"],
    [[8, 1], "mantic", "host-old"],
    [undefined, "bookworm", "missing"],
  ] as const)("[IMG-14] %j on %s: %s", (version, codename, plan) => {
    expect(planQemu({ version, codename })).toBe(plan);
  });

  it("reads Debian's and plain version lines", () => {
    expect(parseQemuVersion("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright")).toEqual([7, 2]);
    expect(parseQemuVersion("qemu: not found")).toBeUndefined();
  });
});

describe("contents of the system image", () => {
  it("has a place for every program and link, each once", () => {
    const names = [...SYSTEM_PROGRAMS, ...SYSTEM_LINKS.map(([link]) => link)];
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(SYSTEM_DIRECTORIES).toContain(name.replace(/\/[^/]+$/, ""));
  });
});
