/** Boot port and link against a real agent without a VM: keys, incarnations, both carriers, broken and late guests. */
import { once } from "node:events";
import net from "node:net";
import { GUEST_LIMITS } from "@sprited/protocol/guest";
import { afterEach, describe, expect, test } from "vitest";
import { awaitIdle, bootstrapGuest, openLink } from "@sprited/daemon";
import {
  type BareGuest,
  bootstrapFor,
  emptyRan,
  newKey,
  nextId,
  readAll,
  runCommand,
  startBareGuest,
  STEP_TIMEOUT_MS,
} from "../kit/bare-guest.ts";

const guests: BareGuest[] = [];
async function start(options?: { serial?: boolean }): Promise<BareGuest> {
  const guest = await startBareGuest(options);
  guests.push(guest);
  return guest;
}
afterEach(async () => {
  for (const guest of guests.splice(0)) await guest[Symbol.asyncDispose]();
});
const timeout = { timeoutMs: STEP_TIMEOUT_MS };

describe("boot port", () => {
  test("[BOOT-2] an idle agent answers the probe, a bootstrapped one does not", async () => {
    const guest = await start();
    expect((await awaitIdle(guest.carrier, timeout)).agentVersion).toMatch(/^[0-9]/);
    await bootstrapGuest(guest.carrier, guest.bootstrap(), timeout);
    await expect(awaitIdle(guest.carrier, { timeoutMs: 300 })).rejects.toMatchObject({ code: "guest_timeout" });
  });

  test("[BOOT-1] lines that are too long or no JSON are passed over", async () => {
    const guest = await start();
    const port = await guest.carrier.openBootPort({ signal: new AbortController().signal });
    port.write('no json\n{"type":"nonsense"}\n');
    port.write(`${"x".repeat(GUEST_LIMITS.bootLineBytesMax + 10)}\n`);
    port.write(`${JSON.stringify(guest.bootstrap())}\n`);
    let text = "";
    port.on("data", (chunk: Buffer) => (text += chunk.toString()));
    await expect.poll(() => text).toContain("bootstrapped");
    port.destroy();
  });

  test("[BOOT-4] a bootstrap that cannot be taken over is refused with its step", async () => {
    const guest = await start();
    await expect(bootstrapGuest(guest.carrier, guest.bootstrap({ generation: 99 }), timeout)).rejects.toMatchObject({
      code: "guest_refused_start",
    });
    await expect(bootstrapGuest(guest.carrier, guest.bootstrap({ key: "AAAA" }), timeout)).rejects.toMatchObject({
      code: "guest_refused_start",
    });
    await expect(openLink(guest.carrier, guest.key, { timeoutMs: 500 })).rejects.toMatchObject({ code: "guest_timeout" });
  });

  test("[BOOT-1] an environment that fits no line is refused before it is sent", async () => {
    const guest = await start();
    const bootstrap = guest.bootstrap({ environment: { LONG: "x".repeat(GUEST_LIMITS.bootLineBytesMax) } });
    await expect(bootstrapGuest(guest.carrier, bootstrap, timeout)).rejects.toMatchObject({ code: "guest_refused" });
  });
});

describe("link", () => {
  test("[LINK-1] both ends prove the key; the dial may come before the bootstrap", async () => {
    const guest = await start();
    await using link = await guest.link();
    expect(link.incarnation).toBe(guest.key.incarnation);
    expect((await link.status()).sessions).toBe(0);
  });

  test("[LINK-1] a wrong key is refused at once", async () => {
    const guest = await start();
    await bootstrapGuest(guest.carrier, guest.bootstrap(), timeout);
    await expect(openLink(guest.carrier, { incarnation: guest.key.incarnation, key: new Uint8Array(32) }, timeout)).rejects.toMatchObject({
      code: "guest_refused_start",
    });
  });

  test("[BOOT-3] [LINK-2] a new incarnation closes the links of the old one, and sessions go on", async () => {
    const guest = await start();
    const old = await guest.link();
    const id = nextId();
    const ran = emptyRan();
    const stream = await old.startSession(id, {
      argv: ["sh", "-c", "echo before; read line; echo after"],
      env: {},
      dir: null,
      tty: null,
      stdin: true,
    });
    const reading = readAll(stream, ran).catch((error: { code: string }) => error.code);
    await expect.poll(async () => (await old.listSessions())[0]?.stdout_bytes).toBe(7);
    const next = newKey();
    await bootstrapGuest(guest.carrier, bootstrapFor(next), timeout);
    expect(await reading).toBe("guest_link_lost");
    await old.closed;
    await expect(old.status()).rejects.toMatchObject({ code: "guest_link_lost" });
    await using link = await openLink(guest.carrier, next, timeout);
    const again = await link.attachSession(id, { stdout: ran.stdout.length, stderr: 0 });
    const rest = readAll(again, ran);
    await again.sendInput(0, Buffer.from("go\n"));
    expect((await rest).stdout.toString()).toBe("before\nafter\n");
    await expect(openLink(guest.carrier, guest.key, { timeoutMs: 500 })).rejects.toMatchObject({ code: "guest_timeout" });
  });

  test("[LINK-3] several links live side by side; the end of one leaves the sessions", async () => {
    const guest = await start();
    const first = await guest.link();
    await using second = await openLink(guest.carrier, guest.key, timeout);
    const id = nextId();
    await first.startSession(id, { argv: ["sh", "-c", "read line; echo $line"], env: {}, dir: null, tty: null, stdin: true });
    await first[Symbol.asyncDispose]();
    const stream = await second.attachSession(id, { stdout: 0, stderr: 0 });
    const reading = readAll(stream);
    await stream.sendInput(0, Buffer.from("still here\n"));
    expect((await reading).stdout.toString()).toBe("still here\n");
  });

  test("[LINK-4] stop ends what runs; status and sync answer", async () => {
    const guest = await start();
    await using link = await guest.link();
    const stream = await link.startSession(nextId(), { argv: ["sleep", "1000"], env: {}, dir: null, tty: null, stdin: false });
    const reading = readAll(stream);
    await link.sync();
    expect((await link.status()).inner).toBe("running");
    await link.stop(100);
    expect((await reading).exit).toEqual({ code: null, signal: "KILL" });
  });

  test("a guest that comes up late is dialled until it is there", async () => {
    const guest = await start();
    const { link } = guest.carrier;
    if (link.kind !== "tcp") throw new Error("the test needs TCP");
    const placeholder = net.createServer().listen(0, "127.0.0.1");
    await once(placeholder, "listening");
    const { port } = placeholder.address() as net.AddressInfo;
    placeholder.close();
    await once(placeholder, "close");
    const opening = openLink({ ...guest.carrier, link: { kind: "tcp", host: "127.0.0.1", port } }, guest.key, timeout);
    opening.catch(() => {});
    await bootstrapGuest(guest.carrier, guest.bootstrap(), timeout);
    await new Promise((resolve) => setTimeout(resolve, 250));
    const relay = net
      .createServer((socket) => {
        const agent = net.connect(link.port, link.host);
        for (const end of [socket, agent]) end.on("error", () => {});
        socket.pipe(agent).pipe(socket);
      })
      .listen(port, "127.0.0.1");
    await using opened = await opening;
    expect((await opened.status()).sessions).toBe(0);
    relay.close();
  });

  test("a dial gives up with its caller", async () => {
    const guest = await start();
    const stop = new AbortController();
    const opening = openLink({ ...guest.carrier, link: { kind: "tcp", host: "127.0.0.1", port: 1 } }, guest.key, {
      ...timeout,
      signal: stop.signal,
    });
    stop.abort(new Error("the caller left"));
    await expect(opening).rejects.toThrow("the caller left");
  });
});

describe("serial link", () => {
  test("[BOOT-6] works like the other carrier", async () => {
    const guest = await start({ serial: true });
    await using link = await guest.link();
    const ran = await runCommand(link, ["sh", "-c", "head -c 3000000 /dev/zero; exit 9"]);
    expect([ran.stdout.length, ran.exit?.code]).toEqual([3_000_000, 9]);
  });

  test("[BOOT-6] a session that was left in the middle does not disturb the next one", async () => {
    const guest = await start({ serial: true });
    const id = nextId();
    const first = await guest.link();
    const stream = await first.startSession(id, { argv: ["sh", "-c", "seq 1 200000"], env: {}, dir: null, tty: null, stdin: false });
    const ran = emptyRan();
    for await (const event of stream.events) {
      if (event.type !== "output") continue;
      ran.stdout = Buffer.concat([ran.stdout, event.data]);
      break;
    }
    await first[Symbol.asyncDispose]();
    await using second = await openLink(guest.carrier, guest.key, timeout);
    await readAll(await second.attachSession(id, { stdout: ran.stdout.length, stderr: 0 }), ran);
    expect(ran.stdout.toString().split("\n").length).toBe(200_001);
    expect(ran.exit?.code).toBe(0);
  });
});
