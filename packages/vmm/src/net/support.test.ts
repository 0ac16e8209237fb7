/** Why slots cannot be made, in one sentence. */
import { describe, expect, it } from "vitest";
import { networkSupport, readNetworkFacts } from "./support.ts";

describe("support", () => {
  const good = { uid: 0, missingPrograms: [], hasTun: true };

  it("[NET-23] says nothing when all is there", () => {
    expect(networkSupport(good)).toBeUndefined();
  });

  it("[NET-23] names the first reason and what to do", () => {
    expect(networkSupport({ ...good, uid: 1000 })).toContain("root");
    expect(networkSupport({ ...good, missingPrograms: ["nft", "ip"] })).toBe(
      "nft, ip cannot be found (Debian: apt install nftables iproute2)",
    );
    expect(networkSupport({ ...good, hasTun: false })).toContain("modprobe tun");
  });

  it("[NET-23] looks at this machine without failing", async () => {
    expect((await readNetworkFacts()).uid).toBe(process.geteuid?.());
  });
});
