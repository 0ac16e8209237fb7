/**
 * Whether this host can have network slots at all. The deciding is pure; `readNetworkFacts`
 * looks.
 */
import { access, constants, stat } from "node:fs/promises";
import path from "node:path";

/** Programs a slot is made with, and the Debian package each is in. */
const PROGRAMS: Readonly<Record<string, string>> = {
  ip: "iproute2",
  nft: "nftables",
  nsenter: "util-linux",
  sysctl: "procps",
};
/** Where `run()` looks for programs. */
const PROGRAM_DIRECTORIES: readonly string[] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
export const TUN_DEVICE = "/dev/net/tun";

/** What network slots need of a host. */
export interface NetworkFacts {
  /** Effective uid of this process. */
  uid: number;
  /** Names of programs that were not found. */
  missingPrograms: readonly string[];
  /** Whether the kernel offers taps. */
  hasTun: boolean;
}

/** Undefined when slots can be made; otherwise why not, to follow `sprites have no network: `. */
export function networkSupport(facts: NetworkFacts): string | undefined {
  if (facts.uid !== 0) return "network namespaces and taps can be made only by root";
  if (facts.missingPrograms.length > 0) {
    const packages = [...new Set(facts.missingPrograms.map((program) => PROGRAMS[program] ?? program))];
    return `${facts.missingPrograms.join(", ")} cannot be found (Debian: apt install ${packages.join(" ")})`;
  }
  if (!facts.hasTun) return `${TUN_DEVICE} is missing (modprobe tun)`;
  return undefined;
}

export async function readNetworkFacts(): Promise<NetworkFacts> {
  const missing: string[] = [];
  for (const program of Object.keys(PROGRAMS)) {
    if (!(await isProgram(program))) missing.push(program);
  }
  const hasTun = await stat(TUN_DEVICE).then(
    (info) => info.isCharacterDevice(),
    () => false,
  );
  return { uid: process.geteuid?.() ?? -1, missingPrograms: missing, hasTun };
}

async function isProgram(name: string): Promise<boolean> {
  for (const directory of PROGRAM_DIRECTORIES) {
    const found = await access(path.join(directory, name), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return true;
  }
  return false;
}
