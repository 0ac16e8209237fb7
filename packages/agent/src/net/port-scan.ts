/**
 * Finds the sprite's listening sockets and who has them, over time. Owners are looked for only when
 * a socket is new: that walks every process.
 *
 * Invariants: nothing is read unless `scan` is called; what one scan found is immutable.
 */
import fs from "node:fs";
import { sleep } from "@sprited/base";
import { GUEST_LISTENERS_MAX, type GuestListener } from "@sprited/protocol/guest";
import { type ListeningSocket, listeningSockets } from "./listeners.ts";
import type { SpriteNetwork } from "./network.ts";

/** How long owners are looked for without letting others run, ms. */
const SLICE_MS = 10;

/** A listening address with the sockets behind it; several where a port is shared. */
export interface FoundListener extends GuestListener {
  inodes: ReadonlySet<string>;
}

/** By address and port. */
export type Listeners = ReadonlyMap<string, FoundListener>;

export const NO_LISTENERS: Listeners = new Map();

export class PortScan {
  readonly #network: SpriteNetwork;
  readonly #innerPid: (pid: number) => number | null;
  /** Who has a socket, as the agent numbers processes; 0 when nobody was found. */
  #owners = new Map<string, number>();

  constructor(network: SpriteNetwork, innerPid: (pid: number) => number | null) {
    this.#network = network;
    this.#innerPid = innerPid;
  }

  /** What listens now. */
  async scan(): Promise<Listeners> {
    const viewPid = this.#network.viewPid();
    if (viewPid === undefined) return NO_LISTENERS;
    const sockets = ["tcp", "tcp6"].flatMap((name) => listeningSockets(readTable(`/proc/${viewPid}/net/${name}`)));
    await this.#findOwners(sockets);
    const found = new Map<string, FoundListener>();
    for (const { address, port, inode } of sockets) {
      const owner = this.#owners.get(inode) ?? 0;
      if (!this.#network.owns(owner)) continue;
      const key = `${address} ${port}`;
      const shared = found.get(key);
      if (!shared && found.size >= GUEST_LISTENERS_MAX) continue;
      const pid = shared?.pid || (owner === 0 ? 0 : (this.#innerPid(owner) ?? 0));
      found.set(key, { address, port, pid, inodes: new Set([...(shared?.inodes ?? []), inode]) });
    }
    return found;
  }

  async #findOwners(sockets: readonly ListeningSocket[]): Promise<void> {
    const known = this.#owners;
    this.#owners = new Map(sockets.flatMap(({ inode }) => (known.has(inode) ? [[inode, known.get(inode) as number]] : [])));
    const wanted = new Set(sockets.filter(({ inode }) => !known.has(inode)).map(({ inode }) => `socket:[${inode}]`));
    if (wanted.size === 0) return;
    let sliceMs = performance.now();
    for (const pid of processes()) {
      for (const link of descriptorsOf(pid)) {
        if (!wanted.delete(link)) continue;
        this.#owners.set(link.slice("socket:[".length, -1), pid);
      }
      if (wanted.size === 0) return;
      if (performance.now() - sliceMs < SLICE_MS) continue;
      await sleep(1);
      sliceMs = performance.now();
    }
    for (const link of wanted) this.#owners.set(link.slice("socket:[".length, -1), 0);
  }
}

/** What changed from one scan to the next. A port whose every socket is another one was closed and opened. Pure. */
export function changesBetween(before: Listeners, now: Listeners): { opened: GuestListener[]; closed: GuestListener[] } {
  const opened: GuestListener[] = [];
  const closed: GuestListener[] = [];
  for (const [key, was] of before) if (!isSame(was, now.get(key))) closed.push(plain(was));
  for (const [key, is] of now) if (!isSame(is, before.get(key))) opened.push(plain(is));
  return { opened, closed };
}

function isSame(one: FoundListener, other: FoundListener | undefined): boolean {
  return other !== undefined && [...one.inodes].some((inode) => other.inodes.has(inode));
}

function plain({ address, port, pid }: FoundListener): GuestListener {
  return { address, port, pid };
}

function readTable(file: string): string {
  try {
    return fs.readFileSync(file, "latin1");
  } catch {
    return ""; // the environment has just ended, or there is no IPv6
  }
}

/** Every process, oldest numbers first: of several that share a socket the parent is named. */
function processes(): number[] {
  return fs
    .readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > 0)
    .sort((one, other) => one - other);
}

function descriptorsOf(pid: number): string[] {
  try {
    const directory = `/proc/${pid}/fd`;
    return fs.readdirSync(directory).map((fd) => linkTarget(`${directory}/${fd}`));
  } catch {
    return []; // it has ended
  }
}

function linkTarget(path: string): string {
  try {
    return fs.readlinkSync(path);
  } catch {
    return ""; // it was closed
  }
}
