/**
 * Who the sprite is, written into the user's root: host name, machine id, host keys. Called with
 * this thread inside the inner environment, so that links lead nowhere else. Files are replaced,
 * never written into: what stands at their place may be anything.
 */
import fs from "node:fs";

export interface Identity {
  hostname: string;
  /** 32 hex digits. */
  machineId: string;
  /** Whether machine id and host keys are made anew. */
  renew: boolean;
}

const HOSTS_BYTES_MAX = 256 * 1024;
/** Marks the line of /etc/hosts that is ours. */
const HOSTS_MARK = "# sprite";

/** Writes what differs. Throws file errors. */
export function writeIdentity(identity: Identity): void {
  if (!fs.existsSync("/etc")) return;
  replaceIfDifferent("/etc/hostname", `${identity.hostname}\n`);
  replaceIfDifferent("/etc/hosts", withHostLine(readSmall("/etc/hosts") ?? "127.0.0.1 localhost\n::1 localhost\n", identity.hostname));
  if (!identity.renew) return;
  replaceIfDifferent("/etc/machine-id", `${identity.machineId}\n`, 0o444);
  if (!fs.existsSync("/etc/ssh")) return;
  for (const name of fs.readdirSync("/etc/ssh")) {
    if (/^ssh_host_.*key(\.pub)?$/.test(name)) fs.rmSync(`/etc/ssh/${name}`, { force: true });
  }
}

/** `hosts` with our line naming `hostname`, wherever it stood. Pure. */
export function withHostLine(hosts: string, hostname: string): string {
  const ours = `127.0.1.1 ${hostname} ${HOSTS_MARK}`;
  const lines = hosts.split("\n");
  const at = lines.findIndex((line) => line.endsWith(HOSTS_MARK));
  if (at >= 0) lines[at] = ours;
  else lines.splice(lines.at(-1) === "" ? -1 : lines.length, 0, ours);
  return lines.join("\n");
}

function replaceIfDifferent(file: string, content: string, mode = 0o644): void {
  if (readSmall(file) === content) return;
  const temporary = `${file}.sprited`;
  fs.rmSync(temporary, { force: true, recursive: true });
  fs.writeFileSync(temporary, content, { mode, flag: "wx" });
  fs.renameSync(temporary, file);
}

function readSmall(file: string): string | undefined {
  let fd: number;
  try {
    fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  try {
    if (!fs.fstatSync(fd).isFile()) return undefined;
    const bytes = Buffer.alloc(HOSTS_BYTES_MAX);
    return bytes.toString("utf8", 0, fs.readSync(fd, bytes, 0, bytes.length, 0));
  } finally {
    fs.closeSync(fd);
  }
}
