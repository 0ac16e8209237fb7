/**
 * What the system image holds beside the agent: a list, so that everything in it is there on
 * purpose. Libraries are not listed; the builder takes those that the programs need.
 */

/** Raised when the way the system root is made changes, so that it is made anew. */
export const SYSTEM_ROOT_REVISION = 1;

/** Debian packages that the files come from; their dependencies are unpacked for the libraries. */
export const SYSTEM_PACKAGES: readonly string[] = [
  "base-files",
  "busybox-static",
  "catatonit",
  "e2fsprogs",
  "iproute2",
  "libatomic1",
  "libc6",
  "libstdc++6",
  "mount",
  "nftables",
  "util-linux",
];

/** Programs that the agent runs. busybox stands in for every other name. */
export const SYSTEM_PROGRAMS: readonly string[] = [
  "usr/bin/busybox",
  "usr/bin/catatonit",
  "usr/bin/dmesg",
  "usr/bin/findmnt",
  "usr/bin/flock",
  "usr/bin/ip",
  "usr/bin/mount",
  "usr/bin/mountpoint",
  "usr/bin/nsenter",
  "usr/bin/prlimit",
  "usr/bin/setpriv",
  "usr/bin/setsid",
  "usr/bin/umount",
  "usr/bin/unshare",
  "usr/sbin/blkid",
  "usr/sbin/blockdev",
  "usr/sbin/bridge",
  "usr/sbin/e2fsck",
  "usr/sbin/fsfreeze",
  "usr/sbin/fstrim",
  "usr/sbin/losetup",
  "usr/sbin/mke2fs",
  "usr/sbin/nft",
  "usr/sbin/pivot_root",
  "usr/sbin/resize2fs",
  "usr/sbin/switch_root",
  "usr/sbin/tc",
  "usr/sbin/tune2fs",
];

/** Other names of programs: link and target, both below the root. */
export const SYSTEM_LINKS: readonly (readonly [string, string])[] = [
  ["usr/sbin/fsck.ext4", "e2fsck"],
  ["usr/sbin/ip", "../bin/ip"],
  ["usr/sbin/mkfs.ext4", "mke2fs"],
];

/** Single files from the packages. */
export const SYSTEM_FILES: readonly string[] = ["etc/mke2fs.conf", "etc/debian_version", "usr/lib/os-release"];

/** Directories that exist, empty: mount points and places for the agent. */
export const SYSTEM_DIRECTORIES: readonly string[] = [
  "dev",
  "etc",
  "mnt",
  "opt",
  "proc",
  "root",
  "run",
  "sys",
  "tmp",
  "usr/bin",
  "usr/sbin",
  "usr/lib",
  "usr/lib64",
  "var",
];

/** Text files written as they stand. */
export const SYSTEM_TEXTS: Readonly<Record<string, string>> = {
  "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
  "etc/group": "root:x:0:\nnogroup:x:65534:\n",
  "etc/hostname": "sprite\n",
  "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
  "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
};

/** Links that make `/bin` and its like the same as `/usr/bin`. */
export const SYSTEM_ALIASES: readonly (readonly [string, string])[] = [
  ["bin", "usr/bin"],
  ["sbin", "usr/sbin"],
  ["lib", "usr/lib"],
  ["lib64", "usr/lib64"],
  ["etc/mtab", "../proc/self/mounts"],
];

/** Where the agent and its files lie in the system image. */
export const AGENT_DIRECTORY = "usr/lib/sprited/agent";

/**
 * A small tool box for use from inside the user's root, where nothing of theirs may be relied
 * on: static busybox and `setpriv` with its own loader and libraries.
 */
export const SPRITE_TOOLBOX = "opt/sprite";
