/**
 * Network slots against a real kernel: real namespaces, taps, rules and connections, with
 * stand-ins for everything outside (see network-world/world.ts). Needs root; nothing of the
 * machine's own network takes part.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { networkSupport, readNetworkFacts, type NetworkProblem, type NetworkSlot } from "@sprited/vmm";
import { MANAGEMENT_NETWORK, USER_NETWORK } from "@sprited/protocol/guest";
import { waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Actor, ELSEWHERE, NetworkWorld, type SlotsProgram } from "./network-world/world.ts";

const unsupported = networkSupport(await readNetworkFacts());
if (unsupported) console.warn(`network tests are skipped: ${unsupported}`);

const OPTIONS = { home: "/home-of-the-test", resolvers: ["192.168.50.53"], spare: 1, max: 40 };
const INTERNET = "203.0.113.10";
const HOST_ADDRESSES = ["198.51.100.2", "192.168.50.1", "172.17.0.1"];
/** What a dial may end with when the way is closed; anything with an answer is a leak. */
const REFUSED = /^error (EHOSTUNREACH|ECONNREFUSED|ENETUNREACH|EACCES|EPERM|timeout)$/;
const START_TIMEOUT_MS = 60_000;
const TEST_TIMEOUT_MS = 60_000;

describe.skipIf(unsupported)("what a guest reaches", { timeout: TEST_TIMEOUT_MS }, () => {
  let world: NetworkWorld;
  let slots: SlotsProgram;
  let host: Actor;
  let internet: Actor;
  let lan: Actor;
  let guest: Actor;
  let guestRoot: Actor;
  let neighbour: Actor;
  let neighbourRoot: Actor;
  let mine: NetworkSlot;
  let other: NetworkSlot;

  beforeAll(async () => {
    world = await NetworkWorld.create();
    [host, internet, lan] = await Promise.all([world.actor(), world.actor("internet"), world.actor("lan")]);
    for (const protocol of ["tcp", "udp"] as const) {
      for (const address of [INTERNET, ...ELSEWHERE]) await internet.listen(protocol, address, 80, "internet");
      await internet.listen(protocol, INTERNET, 53, "foreign-dns");
      await lan.listen(protocol, "192.168.50.20", 80, "lan");
      await lan.listen(protocol, "192.168.50.53", 80, "lan");
      await lan.listen(protocol, "192.168.50.53", 53, "dns");
      await host.listen(protocol, "0.0.0.0", 8080, "host");
      await host.listen(protocol, "192.168.50.1", 9090, "host");
      await host.listen(protocol, "127.0.0.1", 8081, "host-loopback");
      await host.listen(protocol, "0.0.0.0", 5353, "host-multicast");
    }
    slots = await world.slots(OPTIONS);
    [mine, other] = (await slots.acquire(2)).slots as [NetworkSlot, NetworkSlot];
    await world.guest("g0", mine);
    await world.guest("g1", other);
    [guest, guestRoot, neighbour, neighbourRoot] = await Promise.all([
      world.actor("g0-user"),
      world.actor("g0-root"),
      world.actor("g1-user"),
      world.actor("g1-root"),
    ]);
    for (const protocol of ["tcp", "udp"] as const) {
      await neighbour.listen(protocol, "0.0.0.0", 80, "neighbour");
      await neighbourRoot.listen(protocol, "0.0.0.0", 80, "neighbour-root");
    }
    await neighbourRoot.listen("tcp", "0.0.0.0", MANAGEMENT_NETWORK.port, "neighbour-agent");
    await guestRoot.listen("tcp", "0.0.0.0", MANAGEMENT_NETWORK.port, "agent");
    await guestRoot.listen("tcp", "0.0.0.0", 22, "agent-ssh");
  }, START_TIMEOUT_MS);

  afterAll(async () => {
    await world?.[Symbol.asyncDispose]();
  });

  async function expectClosed(from: Actor, targets: readonly { host: string; port: number }[]): Promise<void> {
    const results = await Promise.all(
      targets.flatMap(({ host: address, port }) =>
        (["tcp", "udp"] as const).map(async (protocol) => `${protocol} ${address}:${port} ${await from.dial(protocol, address, port)}`),
      ),
    );
    for (const result of results) expect(result.split(" ").slice(2).join(" "), result).toMatch(REFUSED);
  }

  it("[NET-10] the internet is reachable, and sees the host's address", async () => {
    expect(await guest.dial("tcp", INTERNET, 80)).toBe("internet 198.51.100.2");
    expect(await guest.dial("udp", INTERNET, 80)).toBe("internet 198.51.100.2");
    expect(await neighbour.dial("tcp", INTERNET, 80)).toBe("internet 198.51.100.2");
  });

  it("[NET-3] the host reaches the agent of each slot at an address of its own; the agent sees the management address", async () => {
    expect(mine.agentAddress.host).not.toBe(other.agentAddress.host);
    expect(await host.dial("tcp", mine.agentAddress.host, mine.agentAddress.port)).toBe(`agent ${MANAGEMENT_NETWORK.hostAddress}`);
    expect(await host.dial("tcp", other.agentAddress.host, other.agentAddress.port)).toBe(
      `neighbour-agent ${MANAGEMENT_NETWORK.hostAddress}`,
    );
  });

  it("[NET-3] the host reaches nothing else in a slot", async () => {
    await expectClosed(host, [
      { host: mine.agentAddress.host, port: 22 },
      { host: mine.agentAddress.host, port: 80 },
      { host: other.agentAddress.host, port: 80 },
      { host: USER_NETWORK.guestAddress, port: 80 },
    ]);
  });

  it("[NET-4] nothing can be dialled from the management NIC", async () => {
    await expectClosed(guestRoot, [
      { host: INTERNET, port: 80 },
      { host: MANAGEMENT_NETWORK.hostAddress, port: 8080 },
      { host: mine.agentAddress.host, port: mine.agentAddress.port },
      { host: other.agentAddress.host, port: other.agentAddress.port },
      { host: "198.51.100.2", port: 8080 },
      { host: "192.168.50.53", port: 53 },
    ]);
  });

  it("[NET-11] another slot is not reachable by any of its addresses", async () => {
    const uplink = other.agentAddress.host;
    const hostEnd = uplink.replace(/\d+$/, (last) => String(Number(last) - 1));
    expect(await host.dial("tcp", uplink, other.agentAddress.port)).toContain("neighbour-agent");
    await expectClosed(guest, [
      { host: uplink, port: other.agentAddress.port },
      { host: uplink, port: 80 },
      { host: hostEnd, port: 8080 },
      { host: USER_NETWORK.guestAddress, port: 81 },
    ]);
    expect(await neighbour.seen()).toEqual([]);
    expect(new Set(await neighbourRoot.seen())).toEqual(new Set([`tcp neighbour-agent ${MANAGEMENT_NETWORK.hostAddress}`]));
  });

  it("[NET-12] no service of the host is reachable at any of its addresses", async () => {
    for (const address of HOST_ADDRESSES) expect(await lan.dial("tcp", address, 8080), `control: ${address}`).toContain("host");
    expect(await lan.dial("udp", "192.168.50.1", 9090), "control").toContain("host");
    expect(await host.dial("tcp", "127.0.0.1", 8081)).toContain("host-loopback");
    const ownLink = mine.agentAddress.host.replace(/\d+$/, (last) => String(Number(last) - 1));
    await expectClosed(guest, [
      ...[...HOST_ADDRESSES, ownLink, "127.0.0.1", "127.1.2.3", "0.0.0.0"].map((address) => ({ host: address, port: 8080 })),
      { host: "127.0.0.1", port: 8081 },
      { host: "192.168.50.1", port: 9090 },
      { host: mine.agentAddress.host, port: 8080 },
    ]);
    expect((await host.seen()).filter((line) => !line.endsWith("192.168.50.20") && !line.endsWith("127.0.0.1"))).toEqual([]);
  });

  it("[NET-12] a port the host publishes for a container is closed like its own", async () => {
    expect(await lan.dial("tcp", "198.51.100.2", 8088), "control").toContain("internet");
    expect(await guest.dial("tcp", "198.51.100.2", 8088)).toMatch(REFUSED);
  });

  it("[NET-13] private, link-local, metadata and reserved addresses are closed", async () => {
    for (const protocol of ["tcp", "udp"] as const) {
      for (const address of ELSEWHERE) expect(await host.dial(protocol, address, 80), `control: ${address}`).toContain("internet");
      expect(await host.dial(protocol, "192.168.50.20", 80), "control: LAN").toContain("lan");
    }
    await expectClosed(
      guest,
      [...ELSEWHERE, "192.168.50.20", "192.168.50.53", "240.0.0.1"].map((address) => ({ host: address, port: 80 })),
    );
  });

  it("[NET-13] the management network is closed from the user's NIC", async () => {
    await expectClosed(guest, [
      { host: MANAGEMENT_NETWORK.hostAddress, port: 80 },
      { host: MANAGEMENT_NETWORK.guestAddress, port: MANAGEMENT_NETWORK.port },
      { host: MANAGEMENT_NETWORK.guestAddress, port: 22 },
      { host: USER_NETWORK.gatewayAddress, port: MANAGEMENT_NETWORK.port },
    ]);
  });

  it("[NET-18] multicast and broadcast lead nowhere", async () => {
    const before = await host.seen();
    for (const address of ["224.0.0.251", "239.255.255.250", "255.255.255.255", "10.117.0.3"]) {
      expect(await guest.dial("udp", address, 5353)).toMatch(REFUSED);
    }
    expect(await host.seen()).toEqual(before);
  });

  it("[NET-15] a forged source address leaves nothing", async () => {
    const before = [...(await internet.seen()), ...(await lan.seen()), ...(await host.seen())];
    for (const forged of ["203.0.113.77", "10.117.0.1", other.agentAddress.host, mine.agentAddress.host, "192.168.127.1"]) {
      await world.host("ip", ["-n", "g0-user", "addr", "add", `${forged}/32`, "dev", "nic"]);
      const dials = (["tcp", "udp"] as const).map(async (protocol) => guest.dial(protocol, INTERNET, 80, { localAddress: forged }));
      expect(await Promise.all(dials), forged).toEqual(["error timeout", "error timeout"]);
      await world.host("ip", ["-n", "g0-user", "addr", "del", `${forged}/32`, "dev", "nic"]);
    }
    expect([...(await internet.seen()), ...(await lan.seen()), ...(await host.seen())]).toEqual(before);
  });

  it("[NET-15] a forged MAC address cuts the guest off", async () => {
    await world.host("ip", ["-n", "g0-user", "link", "set", "dev", "nic", "address", "52:54:00:00:75:99"]);
    const forged = await guest.dial("tcp", INTERNET, 80);
    await world.host("ip", ["-n", "g0-user", "link", "set", "dev", "nic", "address", USER_NETWORK.guestMac]);
    expect(forged).toMatch(REFUSED);
    expect(await guest.dial("tcp", INTERNET, 80)).toContain("internet");
  });

  it("[NET-15] IPv6 is off in a slot", async () => {
    const netns = mine.netnsPath.split("/").at(-1) ?? "";
    expect((await world.host("ip", ["-n", netns, "-6", "addr", "show"])).trim()).toBe("");
    await world.host("ip", ["-n", "g0-user", "addr", "add", "fd00:117::2/64", "dev", "nic", "nodad"]);
    expect(await guest.dial("tcp", "fd00:117::1", 8080)).toMatch(REFUSED);
  });

  it("[NET-16] DNS is answered through the gateway, over UDP and TCP", async () => {
    expect(await guest.dial("udp", USER_NETWORK.gatewayAddress, 53)).toContain("dns");
    expect(await guest.dial("tcp", USER_NETWORK.gatewayAddress, 53)).toContain("dns");
    expect(await guest.dial("udp", INTERNET, 53)).toContain("foreign-dns");
  });

  it("[NET-16] the resolver itself stays closed except for that", async () => {
    expect(await lan.dial("udp", "192.168.50.53", 53), "control").toContain("dns");
    await expectClosed(guest, [
      { host: "192.168.50.53", port: 53 },
      { host: "192.168.50.53", port: 80 },
    ]);
  });

  it("[NET-17] a process in the slot's namespace can dial nothing", async () => {
    const insider = await world.actor(mine.netnsPath.split("/").at(-1));
    const ownLink = mine.agentAddress.host.replace(/\d+$/, (last) => String(Number(last) - 1));
    await expectClosed(insider, [
      { host: INTERNET, port: 80 },
      { host: ownLink, port: 8080 },
      { host: "192.168.50.53", port: 53 },
      { host: MANAGEMENT_NETWORK.guestAddress, port: MANAGEMENT_NETWORK.port },
      { host: other.agentAddress.host, port: other.agentAddress.port },
    ]);
  });

  it("[NET-19] what is closed is refused at once, not by silence", async () => {
    for (const address of [
      "169.254.169.254",
      "192.168.50.20",
      ...HOST_ADDRESSES,
      other.agentAddress.host,
      MANAGEMENT_NETWORK.hostAddress,
      USER_NETWORK.gatewayAddress,
    ]) {
      expect(await guest.dial("tcp", address, 80), address).toBe("error ECONNREFUSED");
    }
  });

  it("[NET-21] nobody outside the host reaches a slot, although the host forwards", async () => {
    await expectClosed(internet, [{ host: mine.agentAddress.host, port: mine.agentAddress.port }]);
    await expectClosed(lan, [{ host: mine.agentAddress.host, port: mine.agentAddress.port }]);
  });

  it("[NET-22] a FORWARD policy as Docker sets it is opened for the slots alone", async () => {
    expect(await slots.ask<NetworkProblem[]>({ op: "problems" })).toEqual([]);
    expect(await slots.ask<string[]>({ op: "events" })).toContain("forward_opened");
    const chain = await world.host("nft", ["list", "chain", "ip", "filter", "FORWARD"]);
    expect(chain).toContain("policy drop");
    expect(chain.match(/"sp[0-9a-f]{8}-\*" counter .*accept/g)).toHaveLength(2);
  });

  it("[NET-23] what is changed on the host is said", async () => {
    expect(await slots.ask<string[]>({ op: "events" })).toContain("ip_forward_enabled");
  });

  it("[NET-22] what a reloaded firewall flushed comes back", async () => {
    await world.host("nft", ["flush", "ruleset"]);
    expect(await guest.dial("tcp", INTERNET, 80)).not.toContain("198.51.100.2");
    await world.host("nft", ["table ip filter {\n chain FORWARD {\n type filter hook forward priority filter; policy drop;\n }\n}\n"]);
    expect(await guest.dial("tcp", INTERNET, 80)).toMatch(REFUSED);
    await slots.ask({ op: "refresh" });
    expect(await guest.dial("tcp", INTERNET, 80)).toBe("internet 198.51.100.2");
    expect(await guest.dial("tcp", "198.51.100.2", 8080)).toBe("error ECONNREFUSED");
  });

  it("[NET-24] the host's rules hold when a slot's are gone", async () => {
    const netns = other.netnsPath.split("/").at(-1) ?? "";
    await world.host("ip", [
      "netns",
      "exec",
      netns,
      "nft",
      "flush ruleset\ntable ip nat {\n chain p {\n type nat hook postrouting priority srcnat;\n oifname uplink masquerade\n }\n}\n",
    ]);
    expect(await neighbour.dial("tcp", INTERNET, 80)).toContain("internet");
    await expectClosed(neighbour, [
      ...[...ELSEWHERE, "192.168.50.20", mine.agentAddress.host].map((address) => ({ host: address, port: 80 })),
      ...HOST_ADDRESSES.map((address) => ({ host: address, port: 8080 })),
    ]);
  });

  it("[NET-24] a slot's rules hold when the host's are gone", async () => {
    await world.host("nft", ["flush", "ruleset"]);
    await world.host("nft", ["table ip nat {\n chain p {\n type nat hook postrouting priority srcnat;\n oifname wan masquerade\n }\n}\n"]);
    expect(await guest.dial("tcp", INTERNET, 80)).toContain("internet");
    await expectClosed(
      guest,
      [...ELSEWHERE, "192.168.50.20", other.agentAddress.host].map((address) => ({ host: address, port: 80 })),
    );
    await expectClosed(
      guest,
      ["192.168.50.1", "172.17.0.1", "127.0.0.1"].map((address) => ({ host: address, port: 8080 })),
    );
  });

  it("[NET-2] the taps belong to the slot's user and to no other", async () => {
    const foreign = { ...mine, uid: mine.uid + 1, gid: mine.gid + 1 };
    const nic = { mac: USER_NETWORK.guestMac, address: "10.117.0.2/30", gateway: "10.117.0.1" };
    await expect(world.plug("stranger", foreign, mine.userTap, nic)).rejects.toThrow(/Operation not permitted/);
  });

  it("[NET-2] every slot looks the same from inside", async () => {
    const inside = async (slot: NetworkSlot): Promise<unknown> => {
      const links = JSON.parse(await world.host("ip", ["-n", slot.netnsPath.split("/").at(-1) ?? "", "-j", "addr", "show"])) as {
        ifname: string;
        address: string;
        addr_info: { local: string; prefixlen: number }[];
      }[];
      return links
        .filter((link) => link.ifname.startsWith("sprited-"))
        .map((link) => [link.ifname, link.address, link.addr_info.map((info) => `${info.local}/${info.prefixlen}`)]);
    };
    expect(await inside(mine)).toEqual(await inside(other));
    expect(await inside(mine)).toEqual([
      ["sprited-mgmt", "52:54:00:00:7f:01", ["192.168.127.1/30"]],
      ["sprited-user", "52:54:00:00:75:01", ["10.117.0.1/30"]],
    ]);
  });
});

describe.skipIf(unsupported)("slots over time", { timeout: TEST_TIMEOUT_MS }, () => {
  let world: NetworkWorld;

  beforeAll(async () => {
    world = await NetworkWorld.create();
  }, START_TIMEOUT_MS);

  afterAll(async () => {
    await world?.[Symbol.asyncDispose]();
  });

  const namespaces = async (): Promise<string[]> =>
    (await world.host("ls", ["/run/netns"]))
      .split("\n")
      .filter((name) => name.startsWith("sprited-"))
      .sort();
  const links = async (): Promise<string[]> => (await world.host("ip", ["-br", "link"])).match(/^sp[0-9a-f]{8}-[0-9]+/gm) ?? [];
  const tables = async (): Promise<string[]> => (await world.host("nft", ["list", "tables"])).match(/sprited_\w+/g) ?? [];

  const furnished = async (): Promise<number> => {
    const counts = await Promise.all(
      (await namespaces()).map(async (name) => world.host("ip", ["netns", "exec", name, "nft", "list", "tables"])),
    );
    return counts.filter((listing) => listing.includes("netdev sprited")).length;
  };

  it("[NET-6] spares are made ahead, the limit is a typed error, and closing leaves nothing", async () => {
    const slots = await world.slots({ ...OPTIONS, home: "/six", spare: 2, max: 3 });
    await slots.ask({ op: "settle" });
    await waitFor("two spares", { timeoutMs: 10_000 }, async () => (await furnished()) === 2);
    const { ms } = await slots.acquire(1);
    console.info(`a ready network slot: ${ms.toFixed(2)} ms`);
    await slots.acquire(2);
    await expect(slots.acquire(1)).rejects.toThrow("vmm_network: all 3 network slots are in use");
    for (const index of [0, 1, 2]) await slots.ask({ op: "release", index });
    await slots.ask({ op: "close" });
    expect([await namespaces(), await links(), await tables()]).toEqual([[], [], []]);
    await slots.kill();
  });

  it("[NET-6] twenty at once", async () => {
    const slots = await world.slots({ ...OPTIONS, home: "/twenty", spare: 0, max: 20 });
    const { slots: got, ms } = await slots.acquire(20);
    expect(new Set(got.map((slot) => slot.agentAddress.host)).size).toBe(20);
    console.info(`20 network slots at once: ${ms.toFixed(0)} ms`);
    await slots.kill();
    const after = await world.slots({ ...OPTIONS, home: "/twenty", spare: 0, max: 20 });
    await after.ask({ op: "close" });
    await after.kill();
    expect(await namespaces()).toEqual([]);
  });

  it("[NET-7] a slot that comes back remembers nothing of its last guest", async () => {
    const slots = await world.slots({ ...OPTIONS, home: "/seven", spare: 0, max: 1 });
    const internet = await world.actor("internet");
    await internet.listen("tcp", "0.0.0.0", 80, "internet");
    const [first] = (await slots.acquire(1)).slots as [NetworkSlot];
    await world.guest("first", first);
    expect(await (await world.actor("first-user")).dial("tcp", INTERNET, 80)).toContain("internet");
    const inode = await world.host("stat", ["-L", "-c", "%i", first.netnsPath]);
    await slots.ask({ op: "release", index: first.index });
    const [second] = (await slots.acquire(1)).slots as [NetworkSlot];
    expect(second).toEqual(first);
    expect(await world.host("stat", ["-L", "-c", "%i", second.netnsPath])).not.toBe(inode);
    // The old guest's cable is still plugged into the old namespace.
    expect(await (await world.actor("first-user")).dial("tcp", INTERNET, 80)).toMatch(REFUSED);
    await slots.ask({ op: "release", index: second.index });
    await slots.ask({ op: "close" });
    await slots.kill();
  });

  it("[NET-8] [NET-14] after a kill, adopted slots go on with the new settings and the rest is removed", async () => {
    const internet = await world.actor("internet");
    await internet.listen("tcp", "0.0.0.0", 8000, "internet");
    const before = await world.slots({ ...OPTIONS, home: "/eight", spare: 2 });
    const [kept] = (await before.acquire(2)).slots as [NetworkSlot, NetworkSlot];
    await world.guest("kept", kept);
    const guest = await world.actor("kept-user");
    expect(await guest.dial("tcp", "10.200.0.5", 8000)).toMatch(REFUSED);
    await before.kill();

    const after = await world.slots({ ...OPTIONS, home: "/eight", spare: 0, allowedPrivate: ["10.200.0.0/24"] });
    expect(await after.ask({ op: "adopt", index: kept.index })).toEqual(kept);
    expect(await after.ask({ op: "adopt", index: 39 })).toBeNull();
    await after.ask({ op: "settle" });
    await waitFor("the rest to go", { timeoutMs: 10_000 }, async () => (await namespaces()).length === 1);
    expect(await guest.dial("tcp", "10.200.0.5", 8000)).toContain("internet");
    expect(await guest.dial("tcp", "172.20.0.5", 8000)).toMatch(REFUSED);
    expect(await guest.dial("tcp", "169.254.169.254", 8000)).toMatch(REFUSED);

    // Closing leaves what is taken: its VM lives on.
    await after.ask({ op: "close" });
    expect(await guest.dial("tcp", INTERNET, 8000)).toContain("internet");
    await after.kill();
    const last = await world.slots({ ...OPTIONS, home: "/eight", spare: 0 });
    await last.ask({ op: "close" });
    expect(await last.ask<string[]>({ op: "events" })).toContain("slot_occupied");
    expect(await namespaces(), "a process is in it").toHaveLength(1);
    await last.kill();
  });

  const USER_NIC = {
    mac: USER_NETWORK.guestMac,
    address: `${USER_NETWORK.guestAddress}/${USER_NETWORK.prefixLength}`,
    gateway: USER_NETWORK.gatewayAddress,
  };

  it("[NET-26] what a memory sends over connections of another slot is reset at once and never leaves, not even from a slot of the same number", async () => {
    const internet = await world.actor("internet");
    await internet.listen("tcp", "0.0.0.0", 7000, "internet");
    // Counts what reaches the internet beside connections that begin.
    const strays =
      "table inet strays {\n chain in {\n type filter hook input priority 0;\n tcp dport 7000 tcp flags & syn == 0 counter\n }\n}\n";
    const slots = await world.slots({ ...OPTIONS, home: "/twenty-six", spare: 0, max: 1 });
    const deeds: readonly ((guest: Actor) => Promise<void>)[] = [(guest) => guest.say("from a copy"), (guest) => guest.hangUp()];
    for (const [round, deed] of deeds.entries()) {
      const [first] = (await slots.acquire(1)).slots as [NetworkSlot];
      const name = `inherits-${round}`;
      const cable = await world.plug(name, first, first.userTap, USER_NIC);
      const guest = await world.actor(name);
      expect(await guest.dial("tcp", INTERNET, 7000, { hold: true })).toContain("internet");
      const words = `known ${round}`;
      await guest.say(words);
      await waitFor("words over a known connection", { timeoutMs: 30_000 }, async () => (await internet.seen()).includes(`said ${words}`));
      await cable.unplug();
      await slots.ask({ op: "release", index: first.index });
      const [second] = (await slots.acquire(1)).slots as [NetworkSlot];
      expect(second).toEqual(first);
      await world.host("ip", ["netns", "exec", "internet", "nft", strays]);
      const again = await world.plug(name, second, second.userTap, USER_NIC);
      await deed(guest);
      expect(await guest.failure()).toBe("ECONNRESET");
      expect(await world.host("ip", ["netns", "exec", "internet", "nft", "list", "table", "inet", "strays"])).toContain("packets 0");
      expect(await guest.dial("tcp", INTERNET, 7000)).toContain("internet");
      await world.host("ip", ["netns", "exec", "internet", "nft", "delete", "table", "inet", "strays"]);
      await again.unplug();
      await slots.ask({ op: "release", index: second.index });
    }
    expect(await internet.seen()).not.toContain("said from a copy");
    await slots.ask({ op: "close" });
    await slots.kill();
  });

  it("[NET-27] a connection goes on over the daemon's death, and rules that are applied again", async () => {
    const internet = await world.actor("internet");
    await internet.listen("tcp", "0.0.0.0", 7100, "internet");
    const options = { ...OPTIONS, home: "/twenty-seven", spare: 0 };
    const before = await world.slots(options);
    const [slot] = (await before.acquire(1)).slots as [NetworkSlot];
    const cable = await world.plug("goes-on", slot, slot.userTap, USER_NIC);
    const guest = await world.actor("goes-on");
    expect(await guest.dial("tcp", INTERNET, 7100, { hold: true })).toContain("internet");
    await before.kill();
    const after = await world.slots(options);
    expect(await after.ask({ op: "adopt", index: slot.index })).toEqual(slot);
    await guest.say("still here");
    await waitFor("words over the old connection", { timeoutMs: 30_000 }, async () => (await internet.seen()).includes("said still here"));
    await cable.unplug();
    await after.ask({ op: "release", index: slot.index });
    await after.ask({ op: "close" });
    await after.kill();
  });

  it("[NET-9] half-made slots are removed and damaged ones mended", async () => {
    const internet = await world.actor("internet");
    await internet.listen("tcp", "0.0.0.0", 9000, "internet");
    const before = await world.slots({ ...OPTIONS, home: "/nine", spare: 0 });
    const [a, b] = (await before.acquire(2)).slots as [NetworkSlot, NetworkSlot];
    await before.kill();
    const netns = (slot: NetworkSlot): string => slot.netnsPath.split("/").at(-1) ?? "";
    const prefix = netns(a).replace(/0$/, "");
    await world.host("ip", ["netns", "add", `${prefix}7`]);
    await world.host("touch", [`/run/netns/${prefix}8`]);
    await world.host("ip", ["-n", netns(a), "link", "del", "uplink"]);
    await world.host("ip", ["netns", "exec", netns(a), "nft", "flush", "ruleset"]);
    await world.host("ip", ["-n", netns(b), "link", "del", b.userTap]);

    const after = await world.slots({ ...OPTIONS, home: "/nine", spare: 0 });
    expect(await after.ask({ op: "adopt", index: a.index })).toEqual(a);
    expect(await after.ask({ op: "adopt", index: b.index }), "its taps are lost").toBeNull();
    await after.ask({ op: "settle" });
    await waitFor(
      "the broken ones to go",
      { timeoutMs: 10_000 },
      async () => (await namespaces()).filter((name) => name.startsWith(prefix)).length === 1,
    );
    await world.guest("mended", a);
    const guest = await world.actor("mended-user");
    expect(await guest.dial("tcp", INTERNET, 9000)).toContain("internet");
    expect(await guest.dial("tcp", "169.254.169.254", 9000)).toMatch(REFUSED);
    await after.kill();
  });

  it("[NET-1] [NET-5] two homes share a host, each with a range of its own", async () => {
    const one = await world.slots({ ...OPTIONS, home: "/one", spare: 0 });
    const two = await world.slots({ ...OPTIONS, home: "/two", spare: 0 });
    const [a] = (await one.acquire(1)).slots as [NetworkSlot];
    const [b] = (await two.acquire(1)).slots as [NetworkSlot];
    expect(a.netnsPath).not.toBe(b.netnsPath);
    expect(a.agentAddress.host.split(".")[1]).not.toBe(b.agentAddress.host.split(".")[1]);
    await world.guest("of-one", a);
    await world.guest("of-two", b);
    const agent = await world.actor("of-two-root");
    await agent.listen("tcp", "0.0.0.0", MANAGEMENT_NETWORK.port, "agent");
    const host = await world.actor();
    expect(await host.dial("tcp", b.agentAddress.host, b.agentAddress.port)).toContain("agent");
    expect(await (await world.actor("of-one-user")).dial("tcp", b.agentAddress.host, b.agentAddress.port)).toMatch(REFUSED);
    await Promise.all([one.kill(), two.kill()]);
  });

  it("[NET-25] what a home left that is gone is removed when the next one opens, but not under a process", async () => {
    const home = await mkdtemp(path.join(tmpdir(), "gone-home-"));
    const before = await world.slots({ ...OPTIONS, home, spare: 0 });
    const [slot] = (await before.acquire(1)).slots as [NetworkSlot];
    const id = /sprited-([0-9a-f]{8})-/.exec(slot.netnsPath)?.[1] ?? "none";
    const cable = await world.plug("of-gone", slot, slot.userTap, {
      mac: USER_NETWORK.guestMac,
      address: "10.117.0.2/30",
      gateway: "10.117.0.1",
    });
    const left = async (): Promise<string> =>
      (await world.host("ip", ["netns", "list"])) +
      (await world.host("ip", ["-o", "link", "show"])) +
      (await world.host("nft", ["list", "ruleset"]));
    const openOther = async (): Promise<string[]> => {
      const other = await world.slots({ ...OPTIONS, home: "/twenty-five", spare: 0 });
      const events = await other.ask<string[]>({ op: "events" });
      await other.ask({ op: "close" });
      await other.kill();
      return events;
    };
    await rm(home, { recursive: true });
    expect(await openOther(), "its process lives").not.toContain("gone_home_removed");
    await before.kill();
    expect(await openOther(), "a guest runs in its slot").toContain("gone_home_occupied");
    expect(await left()).toContain(id);
    await cable.unplug();
    expect(await openOther()).toContain("gone_home_removed");
    await waitFor("its names to go", { timeoutMs: 10_000 }, async () => !(await left()).includes(id));
  });

  it("[NET-5] a configured range that is in use names the setting", async () => {
    await expect(world.slots({ ...OPTIONS, home: "/five", subnet: "192.168.50.0/24" })).rejects.toThrow(
      /vmm_network: .*192\.168\.50\.0\/24.*network\.subnet/,
    );
  });

  it("[NET-20] a guest can hold only so many connections", async () => {
    const internet = await world.actor("internet");
    await internet.listen("tcp", "0.0.0.0", 2000, "internet");
    const slots = await world.slots({ ...OPTIONS, home: "/twentieth", spare: 0, connectionsMax: 5 });
    const [slot] = (await slots.acquire(1)).slots as [NetworkSlot];
    await world.guest("greedy", slot);
    const guest = await world.actor("greedy-user");
    const results: string[] = [];
    for (let count = 0; count < 8; count += 1) results.push(await guest.dial("tcp", INTERNET, 2000, { hold: true }));
    expect(results.filter((result) => result.startsWith("internet"))).toHaveLength(5);
    await slots.kill();
  });

  it("[NET-22] a hand-written chain that drops is reported, not touched", async () => {
    await world.host("nft", ["table inet own {\n chain guard {\n type filter hook forward priority 10; policy drop;\n }\n}\n"]);
    const slots = await world.slots({ ...OPTIONS, home: "/report", spare: 0 });
    const problems = await slots.ask<NetworkProblem[]>({ op: "problems" });
    await world.host("nft", ["delete", "table", "inet", "own"]);
    expect(problems.map((problem) => problem.code)).toEqual(["forward_blocked"]);
    expect(problems[0]?.fix).toContain("insert rule inet own guard");
    await slots.kill();
  });
});
