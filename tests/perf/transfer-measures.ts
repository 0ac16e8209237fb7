/**
 * Files and proxied connections beside the bare link: the same bytes on the agent's stream of a
 * raw VM, without daemon and API. Sizes are multiplied by `bench.scale`.
 */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { waitFor } from "@sprited/base";
import { openProxy } from "@sprited/protocol/client";
import { GUEST_LIMITS } from "@sprited/protocol/guest";
import { ExecSocket } from "../kit/exec-socket.ts";
import { createSprite } from "../kit/tenants.ts";
import { uniqueName } from "../kit/target.ts";
import { type Bench, deleteSprite } from "./bench.ts";
import { type RawVm, runOnStream, startRawVm } from "./raw-vm.ts";
import { type Figure, interleave, timed } from "./rounds.ts";

const FILE_MB = 1_000;
const PROXY_MB = 1_000;
const PIECE_BYTES = 1_000_000;
/** Largest piece of input at once, bytes. */
const INPUT_BYTES = 256 * 1024;
const START_TIMEOUT_MS = 120_000;
/** Round trips of one latency sample. */
const TRIPS = 20;
const FILE = "/home/sprite/transferred";

/** Listens, says its port, swallows what comes on the first byte `s`, else sends it back. */
const SERVER = `use IO::Socket::INET; $| = 1; $SIG{CHLD} = 'IGNORE';
my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 16, ReuseAddr => 1) or die; print "port ", $s->sockport, "\\n";
while (my $c = $s->accept) { next if fork; my ($first, $all) = (undef, 0);
  while ((my $n = sysread($c, my $b, 262144)) > 0) { $first //= substr($b, 0, 1); $all += $n; syswrite($c, $b) if $first ne 's' }
  syswrite($c, "had $all") if $first eq 's'; exit 0 }`;

export const TRANSFER_MEASURES: Record<string, (bench: Bench) => Promise<Figure[]>> = { files: measureFiles, proxy: measureProxy };

const piece = randomBytes(PIECE_BYTES).fill("s", 0, 1);

function sizeOf(bench: Bench, megabytes: number): number {
  return Math.min(megabytes, Math.max(16, Math.round(megabytes * bench.scale)));
}

/** A sprite of the daemon and a raw VM, side by side. */
async function beside<T>(bench: Bench, work: (sprite: string, vm: RawVm) => Promise<T>): Promise<T> {
  const sprite = uniqueName("transfer");
  await using place = await bench.place();
  await using vm = await startRawVm(bench.template, place);
  await createSprite(bench.daemon, sprite);
  try {
    return await work(sprite, vm);
  } finally {
    await deleteSprite(bench.daemon, sprite);
  }
}

async function measureFiles(bench: Bench): Promise<Figure[]> {
  const megabytes = sizeOf(bench, FILE_MB);
  const rounds = Math.max(1, Math.floor(bench.rounds / 3));
  const wanted = createHash("sha256");
  for (let at = 0; at < megabytes; at += 1) wanted.update(piece);
  const digest = wanted.digest("hex");
  return await beside(bench, async (sprite, vm) => {
    const push = await interleave(
      rounds,
      () => rate(megabytes, () => pushFile(bench, sprite, megabytes)),
      () => rate(megabytes, () => pushRaw(vm, megabytes)),
    );
    const pull = await interleave(
      rounds,
      () => rate(megabytes, async () => requireSame(await pullFile(bench, sprite), digest)),
      () =>
        rate(megabytes, async () => {
          const hash = createHash("sha256");
          await runOnStream(vm.link, ["cat", FILE], (data) => void hash.update(data));
          requireSame(hash.digest("hex"), digest);
        }),
    );
    const figure = (id: string, what: string, raw: string, { a, b }: typeof push): Figure => ({
      id,
      what: `${what} of ${megabytes} MB`,
      unit: "MB/s",
      product: a,
      baseline: { what: raw, samples: b },
      target: { kind: "ratio_min", value: 0.7 },
    });
    return [
      figure("file-push", "file push", "input of `cat > file` on the agent's stream", push),
      figure("file-pull", "file pull", "`cat file` on the agent's stream, hashed as well", pull),
    ];
  });
}

async function rate(megabytes: number, work: () => Promise<void>): Promise<number> {
  return megabytes / ((await timed(work)) / 1000);
}

function requireSame(found: string, wanted: string): void {
  if (found !== wanted) throw new Error(`what arrived is damaged: ${found}, expected ${wanted}`);
}

async function pushFile(bench: Bench, sprite: string, megabytes: number): Promise<void> {
  const url = `${bench.daemon.baseUrl}/v1/sprites/${sprite}/fs/write?path=${FILE}`;
  const request = http.request(url, { method: "PUT", headers: { authorization: `Bearer ${bench.daemon.token}` } });
  const answered = once(request, "response") as Promise<[http.IncomingMessage]>;
  await pipeline(Readable.from(pieces(megabytes)), request);
  const [response] = await answered;
  response.resume();
  if (response.statusCode !== 200) throw new Error(`a write was answered ${response.statusCode}`);
}

function* pieces(megabytes: number): Generator<Buffer> {
  for (let at = 0; at < megabytes; at += 1) yield piece;
}

async function pullFile(bench: Bench, sprite: string): Promise<string> {
  const url = `${bench.daemon.baseUrl}/v1/sprites/${sprite}/fs/read?path=${FILE}`;
  const [response] = (await once(http.get(url, { headers: { authorization: `Bearer ${bench.daemon.token}` } }), "response")) as [
    http.IncomingMessage,
  ];
  const hash = createHash("sha256");
  for await (const data of response) hash.update(data as Buffer);
  return hash.digest("hex");
}

let lastSession = Date.now() * 1000;
const newSession = (): string => String((lastSession += 1));

async function pushRaw(vm: RawVm, megabytes: number): Promise<void> {
  const stream = await vm.link.startSession(newSession(), {
    argv: ["sh", "-c", `cat > ${FILE}`],
    env: {},
    dir: null,
    tty: null,
    stdin: true,
  });
  const input = new RawInput(stream);
  const sending = (async () => {
    for (let at = 0; at < megabytes; at += 1) await input.write(piece);
    input.end();
  })();
  for await (const event of stream.events) {
    if (event.type === "input_taken") input.taken(event.offset);
    if (event.type === "exit" && event.exit.code !== 0) throw new Error("the raw push failed");
  }
  await sending;
}

async function measureProxy(bench: Bench): Promise<Figure[]> {
  const megabytes = sizeOf(bench, PROXY_MB);
  return await beside(bench, async (sprite, vm) => {
    const server = await ExecSocket.open(bench.daemon, sprite, { cmd: ["perl", "-e", SERVER], stdin: "false" });
    const port = await portOf(() => server.stream(1).toString());
    const rawPort = await startRawServer(vm);
    const through = await interleave(
      Math.max(1, Math.floor(bench.rounds / 3)),
      () => rate(megabytes, () => sendProxied(bench, { sprite, port }, megabytes)),
      () => rate(megabytes, () => sendRaw(vm, rawPort, megabytes)),
    );
    const trip = await interleave(
      bench.rounds,
      () => tripProxied(bench, { sprite, port }),
      () => tripRaw(vm, rawPort),
    );
    server.drop();
    const baseline = (samples: Figure["product"]): Figure["baseline"] => ({ what: "the same connection on the agent's stream", samples });
    return [
      {
        id: "proxy",
        what: `${megabytes} MB through a proxied connection into a VM`,
        unit: "MB/s",
        product: through.a,
        baseline: baseline(through.b),
        target: { kind: "ratio_min", value: 0.7 },
      },
      {
        id: "proxy-latency",
        what: "round trip of a byte through a proxied connection",
        unit: "ms",
        product: trip.a,
        baseline: baseline(trip.b),
        target: { kind: "difference_max", value: 1 },
        note: `mean of ${TRIPS} trips a sample, to an echo server in the VM.`,
      },
    ];
  });
}

async function portOf(output: () => string): Promise<number> {
  return Number((await waitFor("the server's port", { timeoutMs: START_TIMEOUT_MS }, () => /port (\d+)\n/.exec(output()) ?? undefined))[1]);
}

async function startRawServer(vm: RawVm): Promise<number> {
  const stream = await vm.link.startSession(newSession(), { argv: ["perl", "-e", SERVER], env: {}, dir: null, tty: null, stdin: false });
  let output = "";
  void (async () => {
    for await (const event of stream.events) if (event.type === "output") output += Buffer.from(event.data).toString();
  })().catch(() => {}); // ends with the VM
  return await portOf(() => output);
}

/** A connection of either kind: what it takes to send, and what came. */
interface Pipe {
  write(data: Uint8Array): Promise<void>;
  end(): void;
  /** Resolves when `bytes` have come in all. */
  received(bytes: number): Promise<void>;
  close(): void;
}

async function openProxied(bench: Bench, to: { sprite: string; port: number }): Promise<Pipe> {
  const arrivals = new Arrivals();
  const connection = await openProxy(
    { baseUrl: bench.daemon.baseUrl, token: bench.daemon.token, sprite: to.sprite },
    { host: "localhost", port: to.port },
    {
      data: (bytes, taken) => {
        taken();
        arrivals.add(bytes.length);
      },
      eof: () => {},
    },
  );
  connection.ended.catch(() => {}); // seen by what is missing
  return {
    write: (data) => connection.write(data),
    end: () => connection.end(),
    received: (bytes) => arrivals.reach(bytes),
    close: () => connection.close(),
  };
}

async function openRawPipe(vm: RawVm, port: number): Promise<Pipe> {
  const arrivals = new Arrivals();
  const id = newSession();
  const stream = await vm.link.startSession(id, { connect: { host: "localhost", port } });
  const input = new RawInput(stream);
  void (async () => {
    for await (const event of stream.events) {
      if (event.type === "input_taken") input.taken(event.offset);
      if (event.type === "output" && event.stream === "stdout") arrivals.add(event.data.length);
    }
  })().catch(() => {}); // as above
  return {
    write: (data) => input.write(data),
    end: () => input.end(),
    received: (bytes) => arrivals.reach(bytes),
    close: () => void vm.link.deleteSession(id).catch(() => {}), // ends with the VM at the latest
  };
}

type RawStream = Awaited<ReturnType<RawVm["link"]["startSession"]>>;

/** Input of a session, never further ahead of the agent than the protocol allows (SESS-10). */
class RawInput {
  readonly #stream: RawStream;
  #sent = 0;
  #taken = 0;
  #wake = (): void => {};

  constructor(stream: RawStream) {
    this.#stream = stream;
  }

  taken(offset: number): void {
    this.#taken = offset;
    this.#wake();
  }

  async write(data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.length; at += INPUT_BYTES) {
      const part = data.subarray(at, at + INPUT_BYTES);
      while (this.#sent + part.length - this.#taken > GUEST_LIMITS.inputWindowBytes) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
      await this.#stream.sendInput(this.#sent, part);
      this.#sent += part.length;
    }
  }

  end(): void {
    this.#stream.endInput(this.#sent);
  }
}

class Arrivals {
  #bytes = 0;
  #waiting: { bytes: number; resolve: () => void } | undefined;

  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#waiting && this.#bytes >= this.#waiting.bytes) this.#waiting.resolve();
  }

  async reach(bytes: number): Promise<void> {
    if (this.#bytes < bytes) await new Promise<void>((resolve) => (this.#waiting = { bytes, resolve }));
  }
}

async function sendAll(pipe: Pipe, megabytes: number): Promise<void> {
  for (let at = 0; at < megabytes; at += 1) await pipe.write(piece);
  pipe.end();
  await pipe.received(`had ${megabytes * PIECE_BYTES}`.length);
  pipe.close();
}

async function sendProxied(bench: Bench, to: { sprite: string; port: number }, megabytes: number): Promise<void> {
  await sendAll(await openProxied(bench, to), megabytes);
}

async function sendRaw(vm: RawVm, port: number, megabytes: number): Promise<void> {
  await sendAll(await openRawPipe(vm, port), megabytes);
}

async function trips(pipe: Pipe): Promise<number> {
  const byte = Buffer.from("e");
  await pipe.write(byte);
  await pipe.received(1);
  const ms = await timed(async () => {
    for (let trip = 1; trip <= TRIPS; trip += 1) {
      await pipe.write(byte);
      await pipe.received(trip + 1);
    }
  });
  pipe.close();
  return ms / TRIPS;
}

async function tripProxied(bench: Bench, to: { sprite: string; port: number }): Promise<number> {
  return await trips(await openProxied(bench, to));
}

async function tripRaw(vm: RawVm, port: number): Promise<number> {
  return await trips(await openRawPipe(vm, port));
}
