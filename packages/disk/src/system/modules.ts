/**
 * Which kernel modules go where, decided from `modules.dep` alone. A module is named by its path
 * below the modules directory; its dependencies always come along and always come first.
 */

import path from "node:path";

/** Modules that the initrd loads, in this order, to find and mount the system image. */
export const INITRD_MODULES = ["virtio_mmio", "virtio_blk", "virtio_net", "virtio-rng", "erofs"] as const;

/**
 * Modules that root in a sprite may want: containers, firewalls, tunnels, foreign file systems.
 * A trailing `/` takes a whole folder.
 */
export const SYSTEM_MODULES: readonly string[] = [
  "kernel/net/netfilter/",
  "kernel/net/ipv4/netfilter/",
  "kernel/net/ipv6/netfilter/",
  "kernel/net/bridge/",
  "kernel/net/8021q/",
  "kernel/net/sched/",
  "kernel/net/packet/",
  "kernel/net/unix/",
  "kernel/net/netlink/",
  "kernel/net/ipv4/",
  "kernel/net/sctp/",
  "kernel/drivers/net/bonding/",
  "kernel/drivers/net/dummy",
  "kernel/drivers/net/geneve",
  "kernel/drivers/net/ifb",
  "kernel/drivers/net/ipvlan/",
  "kernel/drivers/net/macvlan",
  "kernel/drivers/net/macvtap",
  "kernel/drivers/net/tap",
  "kernel/drivers/net/tun",
  "kernel/drivers/net/veth",
  "kernel/drivers/net/virtio_net",
  "kernel/drivers/net/vrf",
  "kernel/drivers/net/vxlan/",
  "kernel/drivers/net/wireguard/",
  "kernel/drivers/block/loop",
  "kernel/drivers/block/nbd",
  "kernel/drivers/block/virtio_blk",
  "kernel/drivers/block/zram/",
  "kernel/drivers/char/hw_random/virtio-rng",
  "kernel/drivers/md/dm-mod",
  "kernel/drivers/md/dm-crypt",
  "kernel/drivers/md/dm-thin-pool",
  "kernel/drivers/virtio/",
  "kernel/fs/binfmt_misc",
  "kernel/fs/btrfs/",
  "kernel/fs/configfs/",
  "kernel/fs/erofs/",
  "kernel/fs/fat/",
  "kernel/fs/fuse/",
  "kernel/fs/isofs/",
  "kernel/fs/nls/",
  "kernel/fs/overlayfs/",
  "kernel/fs/squashfs/",
  "kernel/fs/xfs/",
];

export interface ModuleIndex {
  /** Path of each module with its direct and indirect dependencies. */
  dependencies: ReadonlyMap<string, readonly string[]>;
}

/** Reads `modules.dep`: `path: dependency dependency …`. */
export function parseModulesDep(text: string): ModuleIndex {
  const dependencies = new Map<string, readonly string[]>();
  for (const line of text.split("\n")) {
    const colon = line.indexOf(":");
    if (colon < 0) continue;
    dependencies.set(
      line.slice(0, colon),
      line
        .slice(colon + 1)
        .split(" ")
        .filter(Boolean),
    );
  }
  return { dependencies };
}

/** Path without compression and `.ko`. */
export function moduleStem(modulePath: string): string {
  return modulePath.replace(/\.ko(\.xz|\.zst|\.gz)?$/, "");
}

/** Last part of the stem with `-` written as `_`, as the kernel names it. */
export function moduleName(modulePath: string): string {
  return path.posix.basename(moduleStem(modulePath)).replaceAll("-", "_");
}

/**
 * The modules of these names in an order in which `insmod` can load them. Names that the kernel
 * has built in are not in the index and are left out.
 */
export function loadOrder(index: ModuleIndex, names: readonly string[]): string[] {
  const byName = new Map([...index.dependencies.keys()].map((one) => [moduleName(one), one]));
  const order: string[] = [];
  const visit = (one: string): void => {
    if (order.includes(one)) return;
    for (const dependency of index.dependencies.get(one) ?? []) visit(dependency);
    order.push(one);
  };
  for (const name of names) {
    const found = byName.get(name.replaceAll("-", "_"));
    if (found) visit(found);
  }
  return order;
}

/** Every module that `patterns` select, with dependencies, sorted. */
export function selectModules(index: ModuleIndex, patterns: readonly string[]): string[] {
  const chosen = new Set<string>();
  for (const [one, dependencies] of index.dependencies) {
    const stem = moduleStem(one);
    if (!patterns.some((pattern) => (pattern.endsWith("/") ? stem.startsWith(pattern) : stem === pattern))) continue;
    chosen.add(one);
    for (const dependency of dependencies) chosen.add(dependency);
  }
  return [...chosen].sort();
}
