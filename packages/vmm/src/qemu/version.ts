/** Which QEMU builds carry our machines, and what a memory snapshot calls one. */
import { createHash } from "node:crypto";
import { VmmError } from "../errors.ts";
import { type AcceleratorKind, MACHINE_REVISION } from "./args.ts";
import { findText } from "./record.ts";

/** Oldest version that can write device state to a file (`migrate file:`). */
const VERSION_MIN = { major: 8, minor: 2 } as const;

/**
 * The version in what `--version` prints, without the rest. Pure. Throws `vmm_unavailable` when
 * it is not QEMU's or too old.
 */
export function requireVersion(text: string): string {
  const install = `install qemu-system-x86 ${VERSION_MIN.major}.${VERSION_MIN.minor} or newer (on Debian 12 from bookworm-backports)`;
  const match = /^(?:QEMU emulator version )?((\d+)\.(\d+)[^\n]{0,200})/.exec(text.trim());
  if (!match?.[1]) throw new VmmError("vmm_unavailable", `the configured program does not say a QEMU version; ${install}`);
  const [major, minor] = [Number(match[2]), Number(match[3])];
  const isOld = major < VERSION_MIN.major || (major === VERSION_MIN.major && minor < VERSION_MIN.minor);
  if (isOld) throw new VmmError("vmm_unavailable", `QEMU ${major}.${minor} is too old; ${install}`);
  return match[1].trim();
}

/** Whether that version writes RAM to fixed places of a file. Pure. */
export function hasMappedRam(version: string): boolean {
  return Number(/^(\d+)\./.exec(version)?.[1] ?? 0) >= 9;
}

/** `VmmDriver.build`: everything that a memory snapshot depends on beside its shape. Under KVM the guest sees the host's CPU. */
export async function buildName(version: string, accelerator: AcceleratorKind): Promise<string> {
  const parts = [`qemu ${version}`, `microvm ${MACHINE_REVISION}`, accelerator];
  if (accelerator === "kvm") parts.push(`cpu ${cpuDigest((await findText("/proc/cpuinfo")) ?? "")}`);
  return parts.join(", ");
}

/** Names a host CPU by model and features. Pure. */
export function cpuDigest(cpuinfo: string): string {
  const lines = ["model name", "stepping", "microcode", "flags"].map((key) => new RegExp(`^${key}\\s*:.*$`, "m").exec(cpuinfo)?.[0] ?? "");
  return createHash("sha256").update(lines.join("\n")).digest("hex").slice(0, 12);
}
