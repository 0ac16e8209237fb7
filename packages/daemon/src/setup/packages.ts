/**
 * Which system packages are needed, why, and whether they are there. Pure: the host is asked
 * through `PackageProbe`, the package manager is run by `apt.ts`.
 *
 * Invariant: whether a package is there is told by the files it brings, not by the package
 * manager, so that a complete host costs a few `stat` calls and hand-built programs count.
 */

/** A package of Debian and Ubuntu. */
export interface SystemPackage {
  name: string;
  /** Completes "needed to …". */
  reason: string;
  /** All must exist: a program name looked up in the system's directories, or an absolute path. */
  provides: readonly string[];
}

/** Everything this program runs or reads that is not part of every Debian or Ubuntu installation. */
export const SYSTEM_PACKAGES: readonly SystemPackage[] = [
  { name: "qemu-system-x86", reason: "run virtual machines", provides: ["qemu-system-x86_64"] },
  { name: "mmdebstrap", reason: "build the Linux that sprites start with", provides: ["mmdebstrap"] },
  {
    name: "debian-archive-keyring",
    reason: "check the signatures of Debian's packages",
    provides: ["/usr/share/keyrings/debian-archive-keyring.gpg"],
  },
  { name: "ca-certificates", reason: "reach package mirrors over HTTPS", provides: ["/etc/ssl/certs/ca-certificates.crt"] },
  { name: "erofs-utils", reason: "pack the read-only system image", provides: ["mkfs.erofs"] },
  { name: "e2fsprogs", reason: "format sprites' disks", provides: ["mkfs.ext4", "e2fsck"] },
  {
    name: "xfsprogs",
    reason: "make a disk pool that clones disks in constant time, and take back room of it that memory does not use",
    provides: ["mkfs.xfs", "xfs_io"],
  },
  { name: "iproute2", reason: "give each VM a network of its own", provides: ["ip"] },
  { name: "nftables", reason: "keep sprites apart from each other and from this host", provides: ["nft"] },
  { name: "kmod", reason: "pick the kernel modules of the VM", provides: ["depmod"] },
  { name: "xz-utils", reason: "unpack kernel modules", provides: ["xz"] },
  { name: "procps", reason: "switch on forwarding between networks", provides: ["sysctl"] },
  {
    name: "util-linux",
    reason: "enter namespaces of a network of its own, make room for memory on the disk",
    provides: ["nsenter", "unshare", "fallocate"],
  },
  { name: "mount", reason: "mount the disk pool", provides: ["mount", "losetup"] },
];

/** Where programs are looked for, whatever the caller's PATH says. */
export const PROGRAM_DIRECTORIES: readonly string[] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** What planning must know of the host. */
export interface PackageProbe {
  exists: (absolutePath: string) => boolean;
  /** Content of /etc/os-release, empty when there is none. */
  osRelease: string;
}

export type PackagePlan =
  | { kind: "complete" }
  /** Install these with apt. */
  | { kind: "install"; packages: readonly SystemPackage[] }
  /** Something is missing and the package manager is not one we know. */
  | { kind: "unknown_distribution"; distribution: string; packages: readonly SystemPackage[] };

/** Decides what to install. */
export function planPackages(probe: PackageProbe, wanted: readonly SystemPackage[] = SYSTEM_PACKAGES): PackagePlan {
  const missing = wanted.filter((one) => !one.provides.every((what) => isProvided(what, probe.exists)));
  if (missing.length === 0) return { kind: "complete" };
  const release = parseOsRelease(probe.osRelease);
  const families = [release["ID"] ?? "", ...(release["ID_LIKE"] ?? "").split(/\s+/)];
  if (!families.includes("debian") && !families.includes("ubuntu")) {
    return { kind: "unknown_distribution", distribution: release["PRETTY_NAME"] ?? "an unknown system", packages: missing };
  }
  return { kind: "install", packages: missing };
}

function isProvided(what: string, exists: (absolutePath: string) => boolean): boolean {
  if (what.startsWith("/")) return exists(what);
  return PROGRAM_DIRECTORIES.some((directory) => exists(`${directory}/${what}`));
}

/** Reads the KEY=value lines of os-release. */
export function parseOsRelease(text: string): Record<string, string> {
  const values: Record<string, string> = {};
  for (const line of text.split("\n")) {
    const match = /^([A-Z0-9_]+)=(?:"(.*)"|'(.*)'|(.*))$/.exec(line.trim());
    if (match?.[1] !== undefined) values[match[1]] = match[2] ?? match[3] ?? match[4] ?? "";
  }
  return values;
}

/** The list shown before anything is installed. */
export function describePackages(packages: readonly SystemPackage[]): string[] {
  const width = Math.max(...packages.map((one) => one.name.length));
  return packages.map((one) => `  ${one.name.padEnd(width)}  to ${one.reason}`);
}
