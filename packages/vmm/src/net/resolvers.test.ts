/** Choosing the guests' DNS servers from what the host uses. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findResolvers, parseResolvConf } from "./resolvers.ts";

describe("resolv.conf", () => {
  it("[NET-16] takes IPv4 servers in order, without loopback, twins and more than three", () => {
    const text = `# nameserver 9.9.9.9
search example.org
nameserver 127.0.0.53
nameserver 192.168.1.1
 nameserver\t10.0.0.2   # comment
nameserver 192.168.1.1
nameserver fe80::1%eth0
nameserver 2001:db8::1
nameserver 0.0.0.0
nameserver 224.0.0.251
nameserver 169.254.169.254
nameserver 1.1.1.1
`;
    expect(parseResolvConf(text)).toEqual(["192.168.1.1", "10.0.0.2", "169.254.169.254"]);
  });

  it("[NET-16] finds none in an empty or hostile file", () => {
    for (const text of ["", "nameserver", "nameserver 1.2.3.4;reboot", "xnameserver 1.2.3.4", "nameserver 999.1.1.1"])
      expect(parseResolvConf(text), text).toEqual([]);
  });
});

describe("the host's own servers", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), "resolvers-"));
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  it("[NET-16] looks behind systemd-resolved when the first file names only loopback", async () => {
    const [first, second] = [path.join(directory, "first"), path.join(directory, "second")];
    await writeFile(first, "nameserver 127.0.0.53\n");
    await writeFile(second, "nameserver 192.168.9.1\n");
    expect(await findResolvers([first, second])).toEqual(["192.168.9.1"]);
    expect(await findResolvers([path.join(directory, "absent"), second])).toEqual(["192.168.9.1"]);
    expect(await findResolvers([first, path.join(directory, "absent")])).toEqual([]);
  });
});
