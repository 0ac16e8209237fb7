import { describe, expect, it } from "vitest";
import { explainAptFailure, installArguments, parseAptStatus } from "./apt.ts";
import { describePackages, parseOsRelease, planPackages, SYSTEM_PACKAGES } from "./packages.ts";

const debian = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n';

describe("planPackages", () => {
  it("asks for nothing when every file is there, in whatever directory of the system", () => {
    const inSbin = (path: string): boolean => path.startsWith("/sbin/") || path.startsWith("/usr/share/") || path.startsWith("/etc/");
    expect(planPackages({ exists: inSbin, osRelease: "" })).toEqual({ kind: "complete" });
  });

  it("asks for exactly what is missing", () => {
    const plan = planPackages({ exists: (path) => !path.endsWith("/nft") && !path.endsWith("/losetup"), osRelease: debian });
    expect(plan.kind === "install" && plan.packages.map((one) => one.name)).toEqual(["nftables", "mount"]);
  });

  it.each([
    ["Ubuntu", "ID=ubuntu\nID_LIKE=debian"],
    ["a child of Ubuntu", 'ID=pop\nID_LIKE="ubuntu debian"'],
  ])("installs on %s", (_, osRelease) => {
    expect(planPackages({ exists: () => false, osRelease }).kind).toBe("install");
  });

  it("does not touch a package manager it does not know", () => {
    const plan = planPackages({ exists: () => false, osRelease: 'ID=fedora\nPRETTY_NAME="Fedora Linux 42"' });
    expect(plan).toMatchObject({ kind: "unknown_distribution", distribution: "Fedora Linux 42" });
    expect(planPackages({ exists: () => false, osRelease: "" })).toMatchObject({ kind: "unknown_distribution" });
  });
});

describe("the table", () => {
  it("names each package once and completes the sentence 'needed to …'", () => {
    const names = SYSTEM_PACKAGES.map((one) => one.name);
    expect(new Set(names).size).toBe(names.length);
    for (const one of SYSTEM_PACKAGES) {
      expect(one.reason, one.name).toMatch(/^[a-z].*[^.]$/);
      expect(one.provides.length, one.name).toBeGreaterThan(0);
    }
  });

  it("is shown aligned", () => {
    const lines = describePackages(SYSTEM_PACKAGES);
    expect(new Set(lines.map((line) => line.indexOf("  to "))).size).toBe(1);
  });
});

describe("parseOsRelease", () => {
  it("reads plain, single and double quoted values and skips the rest", () => {
    expect(parseOsRelease("A=1\nB=\"two words\"\nC='three'\n# D=4\nnonsense")).toEqual({ A: "1", B: "two words", C: "three" });
  });
});

describe("apt", () => {
  it("never removes, never asks, never recommends", () => {
    const args = installArguments(["nftables"]);
    expect(args).toEqual(expect.arrayContaining(["-y", "--no-remove", "--no-install-recommends"]));
    expect(args.at(-1)).toBe("nftables");
  });

  it.each([
    ["E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 12 (apt)", "packages_failed"],
    ["W: Failed to fetch http://deb.debian.org/ Temporary failure resolving 'deb.debian.org'", "no_network"],
    ["E: You don't have enough free space in /var/cache/apt/archives/.", "no_space"],
    ["E: Unable to locate package mmdebstrap", "packages_failed"],
  ])("tells the cause of %j", (output, code) => {
    expect(explainAptFailure(output).code).toBe(code);
  });

  it("repeats apt's own error lines when it knows no better", () => {
    expect(explainAptFailure("Reading…\nE: Unable to locate package nope").message).toContain("E: Unable to locate package nope");
  });

  it("turns status lines into progress, downloads first", () => {
    expect(parseAptStatus("dlstatus:1:50.0:Retrieving file 1 of 2")).toEqual({ fraction: 0.25, detail: "Retrieving file 1 of 2" });
    expect(parseAptStatus("pmstatus:nftables:100.0000:Installed nftables (amd64)")).toMatchObject({ fraction: 1 });
    expect(parseAptStatus("Unpacking nftables …")).toBeUndefined();
  });
});
