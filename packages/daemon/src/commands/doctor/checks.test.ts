import { describe, expect, it } from "vitest";
import { blocks, type HostReport, judge } from "./checks.ts";
import { renderChecks } from "./index.ts";

const good: HostReport = {
  platform: "linux",
  arch: "x64",
  kernel: "6.12.0",
  nodeVersion: "v24.21.0",
  uid: 0,
  hasSudo: false,
  home: "/var/lib/sprited",
  missingPackages: [],
  qemu: { version: "QEMU emulator version 10.0.2 (Debian)", origin: "private" },
  accelerator: { kind: "kvm", reason: "a probe boot reached user space" },
  systemDigest: "0123456789abcdef",
  images: ["default"],
  imageVerdicts: undefined,
  defaultImage: "default",
  pool: { cloneKind: "reflink", reason: "an XFS pool file" },
  freeBytes: 100 * 2 ** 30,
  floorBytes: 5 * 2 ** 30,
  listen: { host: "127.0.0.1", port: 7780 },
  port: "free",
  daemon: undefined,
  controlGroups: "v2",
  networkMissing: undefined,
  networkProblems: [],
  memoryMb: 16_384,
  spriteMemoryMb: 2048,
};

const verdictOf = (change: Partial<HostReport>, id: string): string | undefined =>
  judge({ ...good, ...change }).find((check) => check.id === id)?.verdict;

describe("judge", () => {
  it("finds nothing on a good host", () => {
    const checks = judge(good);
    expect(checks.every((check) => check.verdict === "ok")).toBe(true);
    expect(new Set(checks.map((check) => check.id)).size).toBe(checks.length);
  });

  it.each<[Partial<HostReport>, string]>([
    [{ arch: "arm64" }, "platform"],
    [{ nodeVersion: "v20.19.0" }, "node"],
    [{ missingPackages: ["nftables"] }, "packages"],
    [{ qemu: undefined }, "qemu"],
    [{ qemu: { version: "QEMU emulator version 6.2.0", origin: "host" } }, "qemu"],
    [{ systemDigest: undefined }, "system"],
    [{ images: ["minimal"] }, "images"],
    [{ imageVerdicts: [{ name: "default", digest: "0123456789abcdef", damage: "its file is cut off" }] }, "image:0123456789ab"],
    [{ pool: undefined }, "pool"],
    [{ freeBytes: 2 ** 30 }, "space"],
    [{ port: "another program" }, "port"],
    [{ port: "cannot be used" }, "port"],
  ])("%j blocks", (change, id) => {
    expect(verdictOf(change, id)).toBe("fail");
    expect(blocks(judge({ ...good, ...change }))).toBe(true);
  });

  it.each<[Partial<HostReport>, string]>([
    [{ uid: 1000 }, "root"],
    [{ qemu: { version: "QEMU emulator version 8.2.2 (Debian)", origin: "host" } }, "qemu"],
    [{ accelerator: { kind: "tcg", reason: "a KVM guest hung" } }, "accelerator"],
    [{ accelerator: undefined }, "accelerator"],
    [{ pool: { cloneKind: "copy", reason: "no reflinks" } }, "pool"],
    [{ freeBytes: 8 * 2 ** 30 }, "space"],
    [{ memoryMb: 2048 }, "memory"],
    [{ controlGroups: "none" }, "cgroups"],
    [{ networkMissing: "Sprites have no network." }, "network"],
    [{ networkProblems: [{ message: "The host drops forwarded packets", fix: "nft …" }] }, "network"],
  ])("%j costs something but does not block", (change, id) => {
    expect(verdictOf(change, id)).toBe("warn");
    expect(blocks(judge({ ...good, ...change }))).toBe(false);
  });

  it("accepts an address that our own daemon holds, and a user with sudo", () => {
    expect(verdictOf({ port: "our daemon", daemon: { pid: 7, url: "http://127.0.0.1:7780" } }, "port")).toBe("ok");
    expect(verdictOf({ uid: 1000, hasSudo: true }, "root")).toBe("ok");
  });

  it("says what to do about everything that is not ok", () => {
    const bad = judge({ ...good, uid: 1, qemu: undefined, pool: undefined, images: [], controlGroups: "none", port: "another program" });
    for (const check of bad.filter((one) => one.verdict !== "ok")) expect(check.fix, check.id).toMatch(/\S/);
  });
});

describe("renderChecks", () => {
  it("puts what to do below and sums up", () => {
    const text = renderChecks(judge({ ...good, images: [], accelerator: { kind: "tcg", reason: "no /dev/kvm" } }));
    expect(text).toMatch(/fail {2}base images +default is not built\n {6}→ npx sprited image build default/);
    expect(text).toMatch(/\n1 block\.$/);
    expect(renderChecks(judge(good))).toMatch(/All is well\.$/);
  });
});
