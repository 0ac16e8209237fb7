/**
 * A world of its own for network tests: everything lives in network namespaces below one private
 * mount namespace, so the machine's own network is neither used nor changed, and ending one
 * process removes it all.
 *
 * ```
 *  internet 203.0.113.10, 169.254.169.254, private addresses …
 *     │ 198.51.100.0/24
 *  host (runs the product) ── 192.168.50.0/24 ── lan: .20 a machine, .53 the resolver
 *     │ slots under test
 *  guest N: `g<N>-user` (its user NIC), `g<N>-root` (its management NIC)
 * ```
 *
 * Guests are plain namespaces whose NICs hang on the slots' real taps (see tap-relay.pl): the
 * frames pass exactly what a VM's frames pass.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { run, waitFor, withDeadline } from "@sprited/base";
import { MANAGEMENT_NETWORK, USER_NETWORK } from "@sprited/protocol/guest";
import type { NetworkOptions, NetworkSlot } from "@sprited/vmm";
import type { ActorCommand, DialResult } from "./actor.ts";
import type { SlotsCommand } from "./slots-program.ts";

/** Limit of one answer from a program of the world, `ms`. */
const ANSWER_TIMEOUT_MS = 60_000;
/** How long a packet that is dropped silently is waited for, `ms`; far above any answer here. */
const SILENCE_MS = 700;
/** How long a failure that must come is waited for, `ms`; below that of an answer. */
const FAILURE_MS = 30_000;

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** A program that answers each JSON line with one. */
export class LinePeer<Command> {
  readonly process: ChildProcessWithoutNullStreams;
  readonly #pending = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  readonly #ready: Promise<unknown>;
  #next = 1;
  #rest = "";
  #stderr = "";

  constructor(argv: readonly string[]) {
    this.process = spawn(argv[0] ?? "", argv.slice(1));
    this.#ready = this.#expect(0);
    this.#ready.catch(() => {});
    this.process.stdin.on("error", () => {});
    this.process.stdout.setEncoding("utf8").on("data", (text: string) => this.#read(text));
    this.process.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr = `${this.#stderr}${text}`.slice(-4000);
    });
    this.process.on("close", () => {
      for (const { reject } of this.#pending.values()) reject(new Error(`${argv.join(" ")} ended: ${this.#stderr}`));
      this.#pending.clear();
    });
  }

  /** Resolves when the program has said that it is ready; rejects with its reason when it is not. */
  async ready(): Promise<this> {
    await withDeadline("a program of the test's world", { timeoutMs: ANSWER_TIMEOUT_MS }, () => this.#ready);
    return this;
  }

  async ask<Result>(command: Command): Promise<Result> {
    const id = this.#next;
    this.#next += 1;
    const result = this.#expect(id);
    this.process.stdin.write(`${JSON.stringify({ id, command })}\n`);
    return (await withDeadline("an answer", { timeoutMs: ANSWER_TIMEOUT_MS }, () => result)) as Result;
  }

  /** Ends the program at once and waits until it is gone. */
  async kill(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const gone = new Promise((resolve) => this.process.once("close", resolve));
    this.process.kill("SIGKILL");
    await gone;
  }

  #expect(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }));
  }

  #read(text: string): void {
    const lines = `${this.#rest}${text}`.split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const message = JSON.parse(line) as { id: number; result?: unknown; error?: string };
      const pending = this.#pending.get(message.id);
      this.#pending.delete(message.id);
      if (message.error === undefined) pending?.resolve(message.result);
      else pending?.reject(new Error(message.error));
    }
  }
}

/** One that listens and dials in a namespace. */
export class Actor {
  readonly #peer: LinePeer<ActorCommand>;

  constructor(peer: LinePeer<ActorCommand>) {
    this.#peer = peer;
  }

  async listen(protocol: "tcp" | "udp", host: string, port: number, banner: string): Promise<void> {
    await this.#peer.ask({ op: "listen", protocol, host, port, banner });
  }

  /** Dials and gives back the banner it was met with, or `error <code>`. */
  async dial(
    protocol: "tcp" | "udp",
    host: string,
    port: number,
    options: { localAddress?: string; hold?: boolean } = {},
  ): Promise<string> {
    const result = await this.#peer.ask<DialResult>({ op: "dial", protocol, host, port, timeoutMs: SILENCE_MS, ...options });
    return result.answer ?? `error ${result.error}`;
  }

  /** Writes on the connection held last. */
  async say(text: string): Promise<void> {
    await this.#peer.ask({ op: "say", text });
  }

  /** Ends this side of the connection held last. */
  async hangUp(): Promise<void> {
    await this.#peer.ask({ op: "hang up" });
  }

  /** How the connection held last fails, `none` when it does not for long. */
  async failure(): Promise<string> {
    return this.#peer.ask({ op: "failure", timeoutMs: FAILURE_MS });
  }

  async seen(): Promise<string[]> {
    return this.#peer.ask({ op: "seen" });
  }
}

/** The product, running in the world's host. */
export class SlotsProgram {
  readonly #peer: LinePeer<SlotsCommand>;

  constructor(peer: LinePeer<SlotsCommand>) {
    this.#peer = peer;
  }

  async acquire(count: number): Promise<{ slots: NetworkSlot[]; ms: number }> {
    return this.#peer.ask({ op: "acquire", count });
  }

  async ask<Result>(command: SlotsCommand): Promise<Result> {
    return this.#peer.ask(command);
  }

  async kill(): Promise<void> {
    await this.#peer.kill();
  }
}

export class NetworkWorld implements AsyncDisposable {
  readonly #holder: ChildProcessWithoutNullStreams;
  readonly #peers: { kill(): Promise<void> }[] = [];

  private constructor(holder: ChildProcessWithoutNullStreams) {
    this.#holder = holder;
  }

  static async create(): Promise<NetworkWorld> {
    const holder = spawn("unshare", ["--net", "--mount", "--propagation", "private", "sleep", "infinity"]);
    const world = new NetworkWorld(holder);
    const ours = await run("readlink", ["/proc/self/ns/net"]);
    await waitFor("a namespace of our own", { timeoutMs: 5000 }, async () => {
      const theirs = await run("readlink", [`/proc/${holder.pid}/ns/net`]).catch(() => ours);
      return theirs.stdout !== ours.stdout;
    });
    // Names of namespaces are files below /run.
    await world.host("mount", ["-t", "tmpfs", "tmpfs", "/run"]);
    await world.host("sh", ["-ec", STRICT_NFT]);
    // A new namespace copies this from the machine.
    await world.host("sysctl", ["-q", "-w", "net.ipv4.ip_forward=0"]);
    await world.host("ip", ["-batch", "-"], HOST_LINKS);
    await world.host("ip", ["-n", "internet", "-batch", "-"], INTERNET_LINKS);
    await world.host("ip", ["-n", "lan", "-batch", "-"], LAN_LINKS);
    await world.host("nft", [DOCKER_RULES]);
    return world;
  }

  /** Runs a command on the world's host. */
  async host(program: string, args: readonly string[], input?: string): Promise<string> {
    const result = await run("nsenter", [...this.#enter(), program, ...args], input === undefined ? {} : { input });
    return result.stdout;
  }

  /** Starts an actor in a namespace of the world; on its host when no name is given. */
  async actor(netns?: string): Promise<Actor> {
    const prefix = netns === undefined ? [] : ["ip", "netns", "exec", netns];
    return new Actor(await this.#start<ActorCommand>([...prefix, process.execPath, here("actor.ts")]));
  }

  /** Starts the product on the world's host. */
  async slots(options: Omit<NetworkOptions, "layout">): Promise<SlotsProgram> {
    return new SlotsProgram(await this.#start<SlotsCommand>([process.execPath, here("slots-program.ts"), JSON.stringify(options)]));
  }

  /** Plugs a guest into a slot: namespaces `<name>-user` and `<name>-root`. */
  async guest(name: string, slot: NetworkSlot): Promise<void> {
    await this.plug(`${name}-user`, slot, slot.userTap, {
      mac: USER_NETWORK.guestMac,
      address: `${USER_NETWORK.guestAddress}/${USER_NETWORK.prefixLength}`,
      gateway: USER_NETWORK.gatewayAddress,
    });
    await this.plug(`${name}-root`, slot, slot.managementTap, {
      mac: MANAGEMENT_NETWORK.guestMac,
      address: `${MANAGEMENT_NETWORK.guestAddress}/${MANAGEMENT_NETWORK.prefixLength}`,
      // A guest that turns on us would set one.
      gateway: MANAGEMENT_NETWORK.hostAddress,
    });
  }

  /** Hangs a NIC of a namespace on a tap, of a new one unless it exists; what is given back pulls it out again. */
  async plug(
    netns: string,
    slot: Pick<NetworkSlot, "netnsPath" | "uid" | "gid">,
    tap: string,
    nic: { mac: string; address: string; gateway: string },
  ): Promise<{ unplug(): Promise<void> }> {
    const isThere = (await this.host("ls", ["/run/netns"])).split("\n").includes(netns);
    if (!isThere) await this.host("ip", ["netns", "add", netns]);
    const relay = spawn("nsenter", [
      ...this.#enter(),
      "perl",
      here("tap-relay.pl"),
      slot.netnsPath,
      tap,
      String(slot.uid),
      String(slot.gid),
      `/run/netns/${netns}`,
      "nic",
    ]);
    const peer = { kill: async () => void relay.kill("SIGKILL") };
    this.#peers.push(peer);
    let error = "";
    relay.stderr.setEncoding("utf8").on("data", (text: string) => (error += text));
    await withDeadline(
      "a guest's cable",
      { timeoutMs: 10_000 },
      () =>
        new Promise<void>((resolve, reject) => {
          relay.stdout.once("data", () => resolve());
          relay.once("close", () => reject(new Error(error)));
        }),
    );
    const commands = [
      "link set dev lo up",
      `link set dev nic address ${nic.mac}`,
      `addr add ${nic.address} dev nic`,
      "link set dev nic up",
      `route add default via ${nic.gateway}`,
    ];
    await this.host("ip", ["-n", netns, "-batch", "-"], commands.join("\n"));
    return {
      unplug: async () => {
        const gone = new Promise((resolve) => relay.once("close", resolve));
        await peer.kill();
        await gone;
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const peer of this.#peers.splice(0).reverse()) await peer.kill();
    const gone = new Promise((resolve) => this.#holder.once("close", resolve));
    this.#holder.kill("SIGKILL");
    await gone;
  }

  async #start<Command>(argv: readonly string[]): Promise<LinePeer<Command>> {
    const peer = new LinePeer<Command>(["nsenter", ...this.#enter(), ...argv]);
    this.#peers.push(peer);
    return peer.ready();
  }

  #enter(): string[] {
    return ["-t", String(this.#holder.pid), "-m", "-n"];
  }
}

/** Puts an nft as choosy as that of Ubuntu 24.04 (1.0.9) before this machine's: it takes no socket for a file. */
const STRICT_NFT = `real=$(command -v nft)
cp "$real" /run/nft-real
cat > /run/nft << 'END'
#!/bin/sh
if [ "$1" = -f ] && [ -S /dev/stdin ]; then echo 'Error: Not a regular file: "/dev/stdin"' >&2; exit 1; fi
exec /run/nft-real "$@"
END
chmod 755 /run/nft
mount --bind /run/nft "$real"
`;

const HOST_LINKS = `netns add internet
netns add lan
link set dev lo up
addr add 172.17.0.1/32 dev lo
link add wan type veth peer name eth0 netns internet
addr add 198.51.100.2/24 dev wan
link set dev wan up
link add lan0 type veth peer name eth0 netns lan
addr add 192.168.50.1/24 dev lan0
link set dev lan0 up
route add default via 198.51.100.1
`;

/** Where private and special addresses would be met if nobody closed the way. */
export const ELSEWHERE: readonly string[] = [
  "10.200.0.5",
  "172.20.0.5",
  "192.168.77.5",
  "100.64.0.5",
  "168.63.129.16",
  "169.254.7.7",
  "169.254.169.254",
  "192.0.0.192",
  "198.18.0.5",
];

const INTERNET_LINKS = `link set dev lo up
addr add 198.51.100.1/24 dev eth0
link set dev eth0 up
${["203.0.113.10", ...ELSEWHERE].map((address) => `addr add ${address}/32 dev lo`).join("\n")}
route add 10.118.0.0/15 via 198.51.100.2
route add 192.168.50.0/24 via 198.51.100.2
`;

const LAN_LINKS = `link set dev lo up
addr add 192.168.50.20/24 dev eth0
addr add 192.168.50.53/24 dev eth0
link set dev eth0 up
route add default via 192.168.50.1
`;

/**
 * What Docker leaves on a host: forwarding closed by policy, and a published port. Its target is an
 * address guests may reach, so that only the check of the host's own address can keep it closed.
 */
const DOCKER_RULES = `table ip filter {
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "lan0" oifname "wan" accept
  }
}
table ip nat {
  chain PREROUTING {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local tcp dport 8088 dnat to 203.0.113.10:80
  }
}
`;
