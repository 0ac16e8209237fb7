/**
 * A machine on the internet, as guests see one: a network namespace of this host with a server in
 * it, under an address that is for documentation only. Needs root.
 */
import { run } from "@sprited/base";
import { fileURLToPath } from "node:url";
import { Actor, LinePeer } from "../integration/network-world/world.ts";

const ACTOR = fileURLToPath(new URL("../integration/network-world/actor.ts", import.meta.url));
const PORT = 7000;

export class Outside implements AsyncDisposable {
  readonly port = PORT;
  readonly address: string;
  readonly #netns: string;
  readonly #peer: LinePeer<never>;
  readonly #actor: Actor;

  private constructor(netns: string, address: string, peer: LinePeer<never>) {
    this.#netns = netns;
    this.address = address;
    this.#peer = peer;
    this.#actor = new Actor(peer);
  }

  static async open(): Promise<Outside> {
    const netns = `outside-${process.pid}`;
    // One /30 of 203.0.113.0/24 for each process, so that tests of several checkouts seldom meet.
    const first = (process.pid % 63) * 4;
    const [host, address] = [`203.0.113.${first + 1}`, `203.0.113.${first + 2}`];
    await run("ip", ["netns", "add", netns]);
    const link = `out${process.pid}`;
    const commands = [`link add ${link} type veth peer name eth0 netns ${netns}`, `addr add ${host}/30 dev ${link}`, `link set ${link} up`];
    await run("ip", ["-batch", "-"], { input: `${commands.join("\n")}\n` });
    await run("ip", ["-n", netns, "-batch", "-"], { input: `link set lo up\naddr add ${address}/30 dev eth0\nlink set eth0 up\n` });
    const peer = await new LinePeer<never>(["ip", "netns", "exec", netns, process.execPath, ACTOR]).ready();
    const outside = new Outside(netns, address, peer);
    await outside.#actor.listen("tcp", address, PORT, "outside");
    return outside;
  }

  /** Every byte that connections have brought so far. */
  async heard(): Promise<string> {
    const said = (await this.#actor.seen()).filter((line) => line.startsWith("said "));
    return said.map((line) => line.slice("said ".length)).join("");
  }

  /** Connections that are whole as its kernel sees them. */
  async established(): Promise<number> {
    const listed = await run("ip", ["netns", "exec", this.#netns, "ss", "-Htn", "state", "established"]);
    return listed.stdout.split("\n").filter(Boolean).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#peer.kill();
    await run("ip", ["netns", "del", this.#netns]);
  }
}
