/** What changed between two looks at the sprite's ports, and what `getent` answers. */
import { describe, expect, test } from "vitest";
import { changesBetween, type Listeners } from "./port-scan.ts";
import { addressesIn } from "./resolve.ts";

const listeners = (...all: [port: number, inodes: string[], pid?: number][]): Listeners =>
  new Map(all.map(([port, inodes, pid = 7]) => [`0.0.0.0 ${port}`, { port, address: "0.0.0.0", pid, inodes: new Set(inodes) }]));
const one = (port: number, pid = 7) => ({ port, address: "0.0.0.0", pid });

describe("changes", () => {
  test("[PORTS-2] opened and closed ports", () => {
    expect(changesBetween(listeners([80, ["1"]], [81, ["2"]]), listeners([81, ["2"]], [82, ["3"]]))).toEqual({
      opened: [one(82)],
      closed: [one(80)],
    });
  });

  test("[PORTS-2] a port whose socket is another one was closed and opened", () => {
    expect(changesBetween(listeners([80, ["1"], 7]), listeners([80, ["2"], 8]))).toEqual({ opened: [one(80, 8)], closed: [one(80, 7)] });
  });

  test("[PORTS-2] of a shared port only the first opening and the last closing count", () => {
    expect(changesBetween(listeners([80, ["1"]]), listeners([80, ["1", "2"]]))).toEqual({ opened: [], closed: [] });
    expect(changesBetween(listeners([80, ["1", "2"]]), listeners([80, ["2"]]))).toEqual({ opened: [], closed: [] });
  });
});

describe("answers of getent", () => {
  test("[CONN-1] each address once, in order", () => {
    const answer = "::1             STREAM localhost\n::1             DGRAM  \n127.0.0.1       STREAM \n127.0.0.1       RAW    \n";
    expect(addressesIn(answer)).toEqual(["::1", "127.0.0.1"]);
    expect(addressesIn("garbage\n\nnot-an-ip STREAM\n")).toEqual([]);
    expect(addressesIn(Array.from({ length: 50 }, (_, index) => `10.0.0.${index} STREAM`).join("\n"))).toHaveLength(8);
  });
});
