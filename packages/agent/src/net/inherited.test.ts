/** What counts as outside, what is said to the kernel and how its answers are read; and the real kernel in a namespace of its own. */
import { execFile } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { destroyRequest, isOutside, listRequest, readAnswers } from "./inherited.ts";

const addresses = { guest: "10.117.0.2", own: new Set(["127.0.0.1", "10.117.0.2", "172.17.0.1"]) };

describe("what is outside", () => {
  test.each([
    ["10.117.0.2", "203.0.113.10", true],
    ["10.117.0.2", "10.117.0.1", true],
    ["10.117.0.2", "10.117.0.2", false],
    ["10.117.0.2", "127.0.0.1", false],
    ["10.117.0.2", "172.17.0.1", false],
    ["127.0.0.1", "127.0.0.1", false],
    // A container that the guest made: its network is inside.
    ["172.17.0.1", "172.17.0.2", false],
    [undefined, undefined, false],
  ])("[BOOT-7] %s to %s: %s", (local, peer, expected) => {
    expect(isOutside({ local, peer }, addresses)).toBe(expected);
  });
});

/** A message of the kernel with its header. */
function message(type: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(16 + payload.length, 0);
  header.writeUInt16LE(type, 4);
  return Buffer.concat([header, payload, Buffer.alloc(-payload.length & 3)]);
}

function socketOf(family: number, local: string, peer: string, inode: number): Buffer {
  const payload = Buffer.alloc(72);
  payload.writeUInt8(family, 0);
  Buffer.from(local, "hex").copy(payload, 8);
  Buffer.from(peer, "hex").copy(payload, 24);
  payload.writeUInt32LE(inode, 68);
  return payload;
}

describe("the kernel's socket diagnosis", () => {
  test("[BOOT-7] IPv4, IPv4 in IPv6 and IPv6 are read; the end of a list and answers to orders too", () => {
    const mapped = "00000000000000000000ffff";
    const refused = Buffer.alloc(20);
    refused.writeInt32LE(-95, 0);
    const answers = readAnswers(
      Buffer.concat([
        message(20, socketOf(2, "0a750002", "cb00710a", 7)),
        message(20, socketOf(10, `${mapped}0a750002`, `${mapped}cb00710a`, 8)),
        message(20, socketOf(10, "fe80", "fe81", 0)),
        message(2, Buffer.alloc(20)),
        message(2, refused),
        message(3, Buffer.alloc(4)),
      ]),
    );
    expect(answers.sockets.map(({ local, peer, inode }) => [local, peer, inode])).toEqual([
      ["10.117.0.2", "203.0.113.10", 7],
      ["10.117.0.2", "203.0.113.10", 8],
      [undefined, undefined, 0],
    ]);
    expect([answers.errnos.map(Math.abs), answers.isDone]).toEqual([[0, 95], true]);
  });

  test("[BOOT-7] an order names the very socket of the list", () => {
    const [socket] = readAnswers(message(20, socketOf(2, "0a750002", "cb00710a", 7))).sockets;
    expect(socket && destroyRequest(socket).subarray(24)).toEqual(socket?.id);
    expect(listRequest(2)).toHaveLength(72);
  });

  test("[BOOT-7] no bytes make the reader hang", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        try {
          readAnswers(Buffer.from(bytes));
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
    );
  });
});

const GUEST = "10.117.0.2";
const OUTSIDE = "10.117.0.1";
const SCRIPT = `ip link set lo up && ip link add card type veth peer name far && ip link set far up && ip addr add ${GUEST}/30 dev card && ip link set card up &&
ip neigh add ${OUTSIDE} lladdr 52:54:00:00:75:01 dev card nud permanent && exec "$@"`;

/** Why the real kernel cannot be asked here. */
function unsupported(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  const config = `/boot/config-${os.release()}`;
  const says = fs.existsSync(config) ? fs.readFileSync(config, "utf8") : undefined;
  // Where nothing tells, it is tried.
  return says === undefined || says.includes("CONFIG_INET_DIAG_DESTROY=y") ? undefined : "the kernel cannot end sockets";
}

test.skipIf(unsupported() !== undefined)(
  "[BOOT-7] a connection to the outside is ended at once, those within the guest go on",
  { timeout: 60_000 },
  async () => {
    const fixture = path.join(import.meta.dirname, "inherited.fixture.ts");
    const argv = ["--net", "sh", "-c", SCRIPT, "sh", process.execPath, fixture, GUEST, OUTSIDE];
    const { stdout } = await promisify(execFile)("unshare", argv);
    expect(JSON.parse(stdout)).toEqual({ dropped: 1, outside: "ECONNABORTED", echoes: ["on", "on", "on"], again: 0 });
  },
);
