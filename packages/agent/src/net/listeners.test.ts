/** The kernel's socket tables, as they are on real machines and as they never are. */
import fs from "node:fs";
import net from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { listeningSockets } from "./listeners.ts";

const HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const line = (local: string, state: string, inode: string): string =>
  `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000  1001        0 ${inode} 1 0000000000000000 100 0 0 10 0\n`;

describe("socket tables", () => {
  test("listening sockets of both families, nothing else", () => {
    const table =
      HEAD +
      line("0100007F:1F90", "0A", "100") +
      line("00000000:0016", "0A", "101") +
      line("0100007F:1F90", "01", "102") +
      line("00000000000000000000000000000000:0BB8", "0A", "103") +
      line("00000000000000000000000001000000:0BB9", "0A", "104") +
      line("0000000000000000FFFF00000100007F:0BBA", "0A", "105") +
      line("B80D0120000000000000000001000000:0050", "0A", "106");
    expect(listeningSockets(table)).toEqual([
      { address: "127.0.0.1", port: 8080, inode: "100" },
      { address: "0.0.0.0", port: 22, inode: "101" },
      { address: "::", port: 3000, inode: "103" },
      { address: "::1", port: 3001, inode: "104" },
      { address: "127.0.0.1", port: 3002, inode: "105" },
      { address: "2001:db8::1", port: 80, inode: "106" },
    ]);
  });

  test("every IPv6 address is read back as the one it was", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.constant(0), fc.nat(255)), { minLength: 16, maxLength: 16 }), (bytes) => {
        const hex = [0, 4, 8, 12].map((at) => Buffer.from(bytes.slice(at, at + 4).reverse()).toString("hex")).join("");
        const [found] = listeningSockets(line(`${hex.toUpperCase()}:0050`, "0A", "1"));
        const address = found?.address ?? "";
        if (net.isIPv4(address)) return expect(bytes.slice(0, 12)).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]);
        expect(net.isIPv6(address)).toBe(true);
        const groups = Array.from({ length: 8 }, (_, index) => Buffer.from(bytes.slice(2 * index, 2 * index + 2)).toString("hex"));
        expect(new URL(`http://[${groups.join(":")}]/`).hostname).toBe(new URL(`http://[${address}]/`).hostname);
      }),
    );
  });

  test("garbage is left out", () => {
    fc.assert(fc.property(fc.string(), (text) => listeningSockets(text).length === 0));
    for (const local of ["0100007F", "0100007F:", "0100007G:0050", ":0050", "0100007F:0000"]) {
      expect(listeningSockets(line(local, "0A", "1"))).toEqual([]);
    }
    expect(listeningSockets(line("0100007F:0050", "0A", "0"))).toEqual([]);
  });

  test("this machine's own tables are read", () => {
    for (const name of ["tcp", "tcp6"]) {
      const file = `/proc/self/net/${name}`;
      if (!fs.existsSync(file)) continue;
      for (const { address, port } of listeningSockets(fs.readFileSync(file, "latin1")))
        expect([net.isIP(address) > 0, port > 0]).toEqual([true, true]);
    }
  });
});
