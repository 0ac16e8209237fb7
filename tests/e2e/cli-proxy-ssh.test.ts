/** ssh through `sprite proxy -W`: OpenSSH's own client, a server of the SSH protocol behind the sprite's port, a wire that is cut. */
import { execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import net, { type AddressInfo } from "node:net";
import path from "node:path";
import {
  ChannelRequestType,
  CommandRequestMessage,
  type KeyPair,
  NodeStream,
  SshAlgorithms,
  SshAuthenticationType,
  type SshChannel,
  SshExtendedDataType,
  SshServerSession,
  SshSessionConfiguration,
} from "@microsoft/dev-tunnels-ssh";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";
import { createSprite } from "../kit/tenants.ts";
import { CliHome, type CliResult, collect, SPRITE } from "./cli-run.ts";
import { Wire } from "./cli-wire.ts";

vi.setConfig({ testTimeout: 300_000, hookTimeout: 60_000 });

const SSH = "/usr/bin/ssh";
const SSH_KEYGEN = "/usr/bin/ssh-keygen";
const RUN_TIMEOUT_MS = 250_000;
const DATA_BYTES = 5_000_000;

describe.skipIf(!existsSync(SSH))("ssh with sprite proxy as its ProxyCommand", () => {
  let target: SimulatedTarget;
  let wire: Wire;
  let home: CliHome;
  let server: net.Server;

  beforeAll(async () => {
    target = await openSimulated();
    await createSprite(target, "dev");
    wire = await Wire.open(Number(new URL(target.baseUrl).port));
    home = await CliHome.make({ SPRITES_API_URL: `http://127.0.0.1:${wire.port}`, SPRITE_TOKEN: target.token });
    execFileSync(SSH_KEYGEN, ["-q", "-t", "ecdsa", "-b", "256", "-N", "", "-f", path.join(home.dir, "key")]);
    const [, userKey] = readFileSync(path.join(home.dir, "key.pub"), "utf8").split(" ");
    const hostKey = await SshAlgorithms.publicKey["ecdsaSha2Nistp256"]?.generateKeyPair();
    if (!hostKey) throw new Error("no host key");
    const known = (await hostKey.getPublicKeyBytes())?.toString("base64");
    writeFileSync(path.join(home.dir, "known_hosts"), `dev ecdsa-sha2-nistp256 ${known}\n`);
    server = openServer(hostKey, userKey ?? "");
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
  });
  afterAll(async () => {
    server?.close();
    wire?.close();
    await home?.remove();
    await target?.[Symbol.asyncDispose]();
  });
  beforeEach(() => wire.reset());

  async function ssh(command: string, input?: Uint8Array): Promise<CliResult> {
    const { port } = server.address() as AddressInfo;
    const options = {
      ProxyCommand: `'${SPRITE}' proxy -s dev -W :${port}`,
      UserKnownHostsFile: path.join(home.dir, "known_hosts"),
      StrictHostKeyChecking: "yes",
      IdentityFile: path.join(home.dir, "key"),
      IdentitiesOnly: "yes",
      IdentityAgent: "none",
      BatchMode: "yes",
    };
    const words = Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
    const child = home.startIn(SSH, ["-F", "none", "-T", ...words, "someone@dev", command]);
    child.stdin?.on("error", () => {}); // ended without reading
    child.stdin?.end(input ?? "");
    return await collect(child, RUN_TIMEOUT_MS);
  }

  test("[PROXY-10] a command runs, with its output, its error and its exit code", async () => {
    expect(await ssh("echo to $SSH_TEST; echo trouble >&2; exit 3")).toMatchObject({ code: 3, out: "to the server\n", err: "trouble\n" });
  });

  test("[PROXY-10] megabytes both ways are the same", async () => {
    const data = randomBytes(DATA_BYTES);
    const result = await ssh("cat", data);
    expect([result.code, result.err, hashOf(result.stdout)]).toEqual([0, "", hashOf(data)]);
  });

  test("[PROXY-11] ssh does not notice that the connection to the server is cut", async () => {
    const data = randomBytes(DATA_BYTES);
    wire.cutEvery = 2_000_000;
    const result = await ssh("cat", data);
    expect([result.code, hashOf(result.stdout)]).toEqual([0, hashOf(data)]);
    expect(wire.cuts).toBeGreaterThanOrEqual(2);
    expect(result.err).toMatch(
      /^sprite: connection to dev lost; trying again, Ctrl-C leaves\nsprite: connected to dev again after \d+ s\n/,
    );
  });
});

function hashOf(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** Lets in who has the public key `allowed` (base64), and runs what is asked for in a shell. */
function openServer(hostKey: KeyPair, allowed: string): net.Server {
  return net.createServer((socket) => {
    const session = new SshServerSession(new SshSessionConfiguration());
    session.credentials.publicKeys = [hostKey];
    session.onAuthenticating((asked) => {
      const isKey = [SshAuthenticationType.clientPublicKeyQuery, SshAuthenticationType.clientPublicKey].includes(asked.authenticationType);
      const isAllowed = async (): Promise<object | null> =>
        (await asked.publicKey?.getPublicKeyBytes())?.toString("base64") === allowed ? {} : null;
      asked.authenticationPromise = isKey ? isAllowed() : Promise.resolve(null);
    });
    session.onChannelOpening(({ channel }) => {
      channel.onRequest((asked) => {
        if (asked.requestType !== ChannelRequestType.command) return;
        asked.isAuthorized = true;
        serve(channel, asked.request.convertTo(new CommandRequestMessage()).command ?? "");
      });
    });
    session.connect(new NodeStream(socket)).catch(() => {}); // a client that left
  });
}

function serve(channel: SshChannel, command: string): void {
  const child = spawn("/bin/sh", ["-c", command], { env: { PATH: process.env["PATH"] ?? "", SSH_TEST: "the server" } });
  child.stdin.on("error", () => {}); // ended without reading
  channel.onDataReceived((data) => {
    child.stdin.write(Uint8Array.from(data), () => channel.adjustWindow(data.length));
  });
  channel.onEof(() => child.stdin.end());
  const sent: Promise<unknown>[] = [];
  child.stderr.on("data", (data: Buffer) => sent.push(channel.sendExtendedData(SshExtendedDataType.STDERR, data)));
  const passed = (async () => {
    for await (const data of child.stdout) await channel.send(data as Buffer);
  })();
  child.once("close", (code) => {
    void Promise.all([passed, ...sent]).then(() => channel.close(code ?? 255));
  });
}
