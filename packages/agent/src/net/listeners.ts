/** Reads the kernel's tables of TCP sockets, `/proc/<pid>/net/tcp` and `tcp6`. Pure. */

/** One listening socket. */
export interface ListeningSocket {
  address: string;
  port: number;
  inode: string;
}

/** State of a listening socket in the tables. */
const LISTEN = "0A";

/** The listening sockets of a table. Lines that are none of the kernel's are left out. */
export function listeningSockets(table: string): ListeningSocket[] {
  const sockets: ListeningSocket[] = [];
  for (const line of table.split("\n")) {
    const fields = line.trim().split(/\s+/);
    const [, local, , state] = fields;
    const inode = fields[9];
    if (state !== LISTEN || local === undefined || inode === undefined || inode === "0") continue;
    const [hex = "", portHex = ""] = local.split(":");
    const address = addressOf(hex);
    const port = Number.parseInt(portHex, 16);
    if (address !== undefined && port > 0) sockets.push({ address, port, inode });
  }
  return sockets;
}

/** An address as the tables have it: words of 32 bits, each in the machine's (little-endian) order. */
function addressOf(hex: string): string | undefined {
  if (!/^(?:[0-9A-F]{8}|[0-9A-F]{32})$/i.test(hex)) return undefined;
  const bytes: number[] = [];
  for (let word = 0; word < hex.length; word += 8) {
    for (let at = 6; at >= 0; at -= 2) bytes.push(Number.parseInt(hex.slice(word + at, word + at + 2), 16));
  }
  if (bytes.length === 4) return bytes.join(".");
  if (bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255) return bytes.slice(12).join(".");
  return compressed(bytes);
}

/** The usual short form of an IPv6 address: the longest run of zero groups is left out. */
function compressed(bytes: readonly number[]): string {
  const groups = Array.from({ length: 8 }, (_, index) =>
    (((bytes[2 * index] as number) << 8) | (bytes[2 * index + 1] as number)).toString(16),
  );
  const text = groups.join(":");
  const runs = [...text.matchAll(/(?:^|:)0(?::0)+(?=:|$)/g)];
  const longest = runs.reduce<RegExpMatchArray | undefined>(
    (best, run) => (best && best[0].length >= run[0].length ? best : run),
    undefined,
  );
  if (!longest) return text;
  const from = longest.index ?? 0;
  const after = text.slice(from + longest[0].length);
  return `${text.slice(0, from)}::${after.replace(/^:/, "")}`;
}
