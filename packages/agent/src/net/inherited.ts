/**
 * Ends TCP connections to the outside that a memory brought along from another sprite or another
 * time (BOOT-7), by asking the kernel over its socket diagnosis: no program is started, and the
 * programs that hold them see an error at once.
 *
 * Invariants: everything happens in the network namespace of the calling thread, synchronously;
 * what stays inside the guest is not touched, nor is a socket that listens; who returns has the
 * kernel's word for the end of each.
 */
import os from "node:os";
import fs from "node:fs";
import { diagnosisSocket, receiveNow, sendNow } from "../sys/libc.ts";

/** A connected TCP socket, as the kernel lists it. */
export interface ConnectedSocket {
  /** Local and peer address; an IPv4 one, also when it is mapped into IPv6, in dots, else undefined. */
  local: string | undefined;
  peer: string | undefined;
  /** 0: no program has it any more. */
  inode: number;
  /** What the kernel wants to know it by: `family` and the raw 48 bytes of its `inet_diag_sockid`. */
  family: number;
  id: Buffer;
}

/** Addresses that tell what is outside. */
export interface GuestAddresses {
  /** The one address with which packets leave the guest. */
  guest: string;
  /** All IPv4 addresses of the guest. */
  own: ReadonlySet<string>;
}

const FAMILIES = { inet: 2, inet6: 10 } as const;
const MESSAGE = { error: 2, done: 3, list: 20, destroy: 21 } as const;
const FLAG = { request: 1, acknowledge: 4, dump: 0x300 } as const;
const HEADER_BYTES = 16;
const ID_BYTES = 48;
const REQUEST_BYTES = 8 + ID_BYTES;
/** `inet_diag_msg`. */
const SOCKET_BYTES = 72;
const IPPROTO_TCP = 6;
const TCP_STATE = { timeWait: 6, close: 7, listen: 10 } as const;
/** Every state but those without a program's connection. */
const CONNECTED = 0xfff & ~((1 << TCP_STATE.timeWait) | (1 << TCP_STATE.close) | (1 << TCP_STATE.listen)) & ~1;
/** The kernel makes no longer datagrams of lists. */
const ANSWER_BYTES_MAX = 64 * 1024;
/** Orders of one message; each is answered. */
const BATCH = 64;
const ENOENT = 2;

/** Ends them all in this thread's network namespace. Returns how many there were. Throws when the kernel did not end one. */
export function dropOutsideConnections(guestAddress: string): number {
  const fd = diagnosisSocket();
  try {
    const leaving = listConnected(fd).filter(({ local }) => local === guestAddress);
    // Nearly always there is none, and the wake waits for every look at the system.
    const addresses = { guest: guestAddress, own: leaving.length === 0 ? new Set<string>() : ownAddresses() };
    const doomed = leaving.filter((socket) => isOutside(socket, addresses));
    for (let at = 0; at < doomed.length; at += BATCH) destroy(fd, doomed.slice(at, at + BATCH));
    return doomed.length;
  } finally {
    fs.closeSync(fd);
  }
}

/** Whether a connection leaves the guest: only packets from the guest's own address do. Pure. */
export function isOutside({ local, peer }: Pick<ConnectedSocket, "local" | "peer">, { guest, own }: GuestAddresses): boolean {
  return local === guest && peer !== undefined && !own.has(peer) && !peer.startsWith("127.");
}

/** Asks for the connected sockets of a family. */
export function listRequest(family: number): Buffer {
  return request(MESSAGE.list, FLAG.request | FLAG.dump, { family, id: Buffer.alloc(ID_BYTES) });
}

/** Orders the end of one socket. */
export function destroyRequest(socket: Pick<ConnectedSocket, "family" | "id">): Buffer {
  return request(MESSAGE.destroy, FLAG.request | FLAG.acknowledge, socket);
}

/** What one datagram of answers says. `errnos`: of each order, 0 when it was carried out. */
export interface Answers {
  sockets: ConnectedSocket[];
  errnos: number[];
  isDone: boolean;
}

/** Reads a datagram of the kernel. Throws when it is none. */
export function readAnswers(bytes: Buffer): Answers {
  const answers: Answers = { sockets: [], errnos: [], isDone: false };
  for (let at = 0; at < bytes.length;) {
    if (at + HEADER_BYTES > bytes.length) throw new Error("an answer of the kernel is cut off");
    const length = bytes.readUInt32LE(at);
    if (length < HEADER_BYTES || at + length > bytes.length) throw new Error("an answer of the kernel is cut off");
    const type = bytes.readUInt16LE(at + 4);
    const payload = bytes.subarray(at + HEADER_BYTES, at + length);
    if (type === MESSAGE.error) answers.errnos.push(-payload.readInt32LE(0));
    if (type === MESSAGE.done) answers.isDone = true;
    if (type === MESSAGE.list && payload.length >= SOCKET_BYTES) answers.sockets.push(readSocket(payload));
    at += (length + 3) & ~3;
  }
  return answers;
}

function readSocket(payload: Buffer): ConnectedSocket {
  const family = payload.readUInt8(0);
  const id = Buffer.from(payload.subarray(4, 4 + ID_BYTES));
  return {
    family,
    id,
    local: ipv4Of(family, id.subarray(4, 20)),
    peer: ipv4Of(family, id.subarray(20, 36)),
    inode: payload.readUInt32LE(68),
  };
}

const MAPPED = Buffer.from("00000000000000000000ffff", "hex");

function ipv4Of(family: number, address: Buffer): string | undefined {
  if (family === FAMILIES.inet) return [...address.subarray(0, 4)].join(".");
  return address.subarray(0, 12).equals(MAPPED) ? [...address.subarray(12)].join(".") : undefined;
}

function request(type: number, flags: number, { family, id }: Pick<ConnectedSocket, "family" | "id">): Buffer {
  const message = Buffer.alloc(HEADER_BYTES + REQUEST_BYTES);
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(type, 4);
  message.writeUInt16LE(flags, 6);
  message.writeUInt8(family, HEADER_BYTES);
  message.writeUInt8(IPPROTO_TCP, HEADER_BYTES + 1);
  message.writeUInt32LE(CONNECTED, HEADER_BYTES + 4);
  id.copy(message, HEADER_BYTES + 8);
  return message;
}

function ownAddresses(): Set<string> {
  return new Set(Object.values(os.networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address)));
}

function listConnected(fd: number): ConnectedSocket[] {
  return Object.values(FAMILIES).flatMap((family) => {
    sendNow(fd, listRequest(family));
    const sockets: ConnectedSocket[] = [];
    const buffer = Buffer.alloc(ANSWER_BYTES_MAX);
    for (;;) {
      const answers = readAnswers(receiveNow(fd, buffer));
      const errno = answers.errnos.find((one) => one !== 0);
      if (errno !== undefined) throw new Error(`the kernel does not list connections: error ${errno}`);
      sockets.push(...answers.sockets);
      if (answers.isDone) return sockets;
    }
  });
}

function destroy(fd: number, sockets: readonly ConnectedSocket[]): void {
  sendNow(fd, Buffer.concat(sockets.map(destroyRequest)));
  const buffer = Buffer.alloc(ANSWER_BYTES_MAX);
  for (let answered = 0; answered < sockets.length;) {
    const { errnos } = readAnswers(receiveNow(fd, buffer));
    // One that ended by itself is gone. One that no program has any more cannot always be ended: nobody
    // reads from it, and its packets do not leave the slot.
    const failed = errnos.find((errno, index) => errno !== 0 && errno !== ENOENT && sockets[answered + index]?.inode !== 0);
    if (failed !== undefined) throw new Error(`the kernel does not end connections: error ${failed}`);
    if (errnos.length === 0) throw new Error("the kernel did not answer an order");
    answered += errnos.length;
  }
}
