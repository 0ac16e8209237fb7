/**
 * What the doctor says about a host: facts in, verdicts out. Pure.
 */

/** Everything the doctor looks at. */
export interface HostReport {
  platform: string;
  arch: string;
  kernel: string;
  nodeVersion: string;
  uid: number;
  hasSudo: boolean;
  home: string;
  /** Packages that are missing. */
  missingPackages: readonly string[];
  /** The QEMU that would be used, first line of `--version`. */
  qemu: { version: string; origin: "host" | "private" } | undefined;
  /** How guest code is executed; undefined while nothing can tell. */
  accelerator: { kind: string; reason: string } | undefined;
  /** Digest of the system image that VMs boot; undefined before the set-up. */
  systemDigest: string | undefined;
  /** Built base images. */
  images: readonly string[];
  /** Every built image read in full; undefined when that was not asked for. */
  imageVerdicts: readonly { name: string; digest: string; damage: string | undefined }[] | undefined;
  /** Image of new sprites. */
  defaultImage: string;
  /** undefined before the set-up. */
  pool: { cloneKind: "reflink" | "copy"; reason: string } | undefined;
  freeBytes: number;
  floorBytes: number;
  listen: { host: string; port: number };
  /** Who listens at that address. */
  port: "free" | "our daemon" | "another program" | "cannot be used";
  /** The daemon of this home, if one runs. */
  daemon: { pid: number; url: string | undefined } | undefined;
  controlGroups: "v2" | "v1" | "none";
  /** One sentence when sprites can have no network. */
  networkMissing: string | undefined;
  networkProblems: readonly { message: string; fix: string }[];
  memoryMb: number;
  spriteMemoryMb: number;
}

export interface Check {
  /** Stable, for scripts. */
  id: string;
  title: string;
  /** `fail` blocks; `warn` costs something. */
  verdict: "ok" | "warn" | "fail";
  detail: string;
  fix?: string;
}

type Judge = (report: HostReport) => Check | Check[];

/** All verdicts, in the order they are shown. */
export function judge(report: HostReport): Check[] {
  return JUDGES.flatMap((one) => one(report));
}

/** Whether anything blocks. */
export function blocks(checks: readonly Check[]): boolean {
  return checks.some((check) => check.verdict === "fail");
}

function ok(id: string, title: string, detail: string): Check {
  return { id, title, verdict: "ok", detail };
}

function warn(id: string, title: string, detail: string, fix: string): Check {
  return { id, title, verdict: "warn", detail, fix };
}

function fail(id: string, title: string, detail: string, fix: string): Check {
  return { id, title, verdict: "fail", detail, fix };
}

const RUN_START = "Run npm start (or npx sprited setup).";

const platform: Judge = ({ platform: name, arch, kernel }) =>
  name === "linux" && arch === "x64"
    ? ok("platform", "platform", `Linux ${kernel}, x86-64`)
    : fail("platform", "platform", `${name} ${arch}`, "VMs run on Linux x86-64 only.");

const node: Judge = ({ nodeVersion }) => {
  const major = Number(nodeVersion.replace(/^v/, "").split(".")[0]);
  return major >= 24
    ? ok("node", "Node", nodeVersion)
    : fail("node", "Node", `${nodeVersion} is too old`, "Use npx sprited, which runs on the Node that npm brought.");
};

const root: Judge = ({ uid, hasSudo }) => {
  if (uid === 0) return ok("root", "root", "running as root");
  if (hasSudo) return ok("root", "root", "sudo is installed; npm start asks for it");
  return warn(
    "root",
    "root",
    "neither root nor sudo: no network for sprites, no disk pool, no confinement by uid",
    "Run as root, or install sudo.",
  );
};

const packages: Judge = ({ missingPackages }) =>
  missingPackages.length === 0
    ? ok("packages", "system packages", "complete")
    : fail(
        "packages",
        "system packages",
        `missing: ${missingPackages.join(", ")}`,
        `npm start installs them; by hand: apt install ${missingPackages.join(" ")}`,
      );

const qemu: Judge = ({ qemu: found }) => {
  if (!found) return fail("qemu", "QEMU", "not found", RUN_START);
  const [major = 0, minor = 0] = /(\d+)\.(\d+)/.exec(found.version)?.slice(1).map(Number) ?? [];
  const text = `${major}.${minor}, ${found.origin === "private" ? "unpacked privately" : "the host's own"}`;
  if (major < 7 || (major === 7 && minor < 2))
    return fail("qemu", "QEMU", `${text}: at least 7.2 is needed`, "Use Debian 12 or newer, Ubuntu 24.04 or newer, or set vmm.qemu_path.");
  if (major < 10) return warn("qemu", "QEMU", `${text}; 10 emulates twice as fast`, "Nothing needs to be done where KVM works.");
  return ok("qemu", "QEMU", text);
};

const accelerator: Judge = ({ accelerator: found }) => {
  if (!found) return warn("accelerator", "accelerator", "not tried yet", RUN_START);
  if (found.kind === "kvm") return ok("accelerator", "accelerator", `KVM: ${found.reason}`);
  return warn(
    "accelerator",
    "accelerator",
    `${found.kind.toUpperCase()} (emulation, about ten times slower): ${found.reason}`,
    "Use a host with working KVM for speed; everything works without.",
  );
};

const system: Judge = ({ systemDigest }) =>
  systemDigest === undefined
    ? fail("system", "guest system", "not built", RUN_START)
    : ok("system", "guest system", systemDigest.slice(0, 12));

const images: Judge = ({ images: built, defaultImage }) =>
  built.includes(defaultImage)
    ? ok("images", "base images", built.join(", "))
    : fail(
        "images",
        "base images",
        `${defaultImage} is not built${built.length === 0 ? "" : ` (there is: ${built.join(", ")})`}`,
        `npx sprited image build ${defaultImage}`,
      );

const imageContents: Judge = ({ imageVerdicts }) =>
  (imageVerdicts ?? []).map(({ name, digest, damage }) => {
    const [id, title] = [`image:${digest.slice(0, 12)}`, `image ${name}`];
    if (damage === undefined) return ok(id, title, `${digest.slice(0, 12)}, every byte as it was built`);
    return fail(id, title, `${digest.slice(0, 12)}: ${damage}`, `npx sprited image build ${name}`);
  });

const pool: Judge = ({ pool: found }) => {
  if (!found) return fail("pool", "disk pool", "not made", RUN_START);
  return found.cloneKind === "reflink"
    ? ok("pool", "disk pool", found.reason)
    : warn("pool", "disk pool", found.reason, "Start once as root, or put SPRITED_HOME on XFS or btrfs.");
};

const space: Judge = ({ freeBytes, floorBytes, home }) => {
  const detail = `${gib(freeBytes)} free, ${gib(floorBytes)} of it kept free`;
  if (freeBytes <= floorBytes) return fail("space", "disk space", detail, `Free some on the disk of ${home}, or lower disk.free_floor_gb.`);
  if (freeBytes < floorBytes + 10 * 2 ** 30) return warn("space", "disk space", detail, "A few sprites may fill it.");
  return ok("space", "disk space", detail);
};

const memory: Judge = ({ memoryMb, spriteMemoryMb }) =>
  memoryMb >= spriteMemoryMb * 2
    ? ok("memory", "memory", `${memoryMb} MiB`)
    : warn(
        "memory",
        "memory",
        `${memoryMb} MiB; a sprite takes up to ${spriteMemoryMb}`,
        "Lower sprite.memory_mb, or run one sprite at a time.",
      );

const port: Judge = ({ port: state, listen }) => {
  const address = `${listen.host}:${listen.port}`;
  if (state === "free") return ok("port", "API address", `${address} is free`);
  if (state === "our daemon") return ok("port", "API address", `${address}, our daemon listens`);
  if (state === "another program")
    return fail("port", "API address", `${address} is in use by another program`, "Stop it, or set SPRITED_LISTEN.");
  return fail(
    "port",
    "API address",
    `${address} cannot be listened on`,
    "Set SPRITED_LISTEN to an address of this host and a port above 1023.",
  );
};

const daemon: Judge = ({ daemon: found }) =>
  found
    ? ok("daemon", "daemon", `running, process ${found.pid}${found.url ? `, ${found.url}` : ""}`)
    : ok("daemon", "daemon", "not running");

const controlGroups: Judge = ({ controlGroups: version, uid }) => {
  if (version === "v2") return ok("cgroups", "control groups", "v2");
  if (version === "v1") return ok("cgroups", "control groups", "v1");
  const fix = uid === 0 ? "mount -t cgroup2 none /sys/fs/cgroup" : "Run as root.";
  return warn("cgroups", "control groups", "none: VMs have no limits of their own beside their size", fix);
};

const network: Judge = ({ networkMissing, networkProblems }) => {
  if (networkMissing !== undefined) return warn("network", "network", networkMissing, "Run as root with iproute2 and nftables installed.");
  if (networkProblems.length === 0) return ok("network", "network", "namespaces, taps and nftables are there; nothing blocks forwarding");
  return networkProblems.map((problem) => warn("network", "network", problem.message, problem.fix));
};

const JUDGES: readonly Judge[] = [
  platform,
  node,
  root,
  packages,
  qemu,
  accelerator,
  system,
  images,
  imageContents,
  pool,
  space,
  memory,
  port,
  daemon,
  controlGroups,
  network,
];

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
