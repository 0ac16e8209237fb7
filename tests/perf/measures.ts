/** Every measure that is promised, by its id. */
import { createHash, randomBytes } from "node:crypto";
import path from "node:path";
import { sleep, waitFor } from "@sprited/base";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw, ExecSocket } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { createSprite } from "../kit/tenants.ts";
import { uniqueName } from "../kit/target.ts";
import { bareInitrd } from "./bare-guest.ts";
import { EXEC_MEASURES } from "./exec-measures.ts";
import { type Bench, createAndEcho, createAndEchoPatiently, deleteSprite } from "./bench.ts";
import { download, startJsonServer } from "./plain-list.ts";
import { measureCli } from "./cli-measures.ts";
import { cpuPercent, pssMb, rssMb } from "./proc.ts";
import { firstOutput, runOnStream, startBareGuest, startRawVm } from "./raw-vm.ts";
import { type Figure, interleave, samplesOf, timed } from "./rounds.ts";
import { STATE_MEASURES } from "./state-measures.ts";
import { TRANSFER_MEASURES } from "./transfer-measures.ts";

const MB = 1_000_000;
/** Sprites started at the same moment. */
const AT_ONCE = 20;
/** Idle time after the last command before memory and CPU are looked at, ms. */
const SETTLE_MS = 8_000;
/** Window of a CPU measurement, ms. */
const CPU_WINDOW_MS = 20_000;

export const MEASURES: Record<string, (bench: Bench) => Promise<Figure[]>> = {
  create: measureCreate,
  echo: measureEcho,
  burst: measureBurst,
  stdout: measureStdout,
  idle: measureIdle,
  memory: measureMemory,
  many: measureMany,
  cli: measureCli,
  ...STATE_MEASURES,
  ...EXEC_MEASURES,
  ...TRANSFER_MEASURES,
};

async function measureCreate(bench: Bench): Promise<Figure[]> {
  const { a, b } = await interleave(
    bench.rounds,
    async () => {
      const name = uniqueName("bench");
      const ms = await timed(() => createAndEcho(bench.daemon, name));
      await deleteSprite(bench.daemon, name);
      return ms;
    },
    async () => {
      await using place = await bench.place();
      let vm: Awaited<ReturnType<typeof startRawVm>> | undefined;
      const ms = await timed(async () => {
        vm = await startRawVm(bench.template, place);
        await firstOutput(vm);
      });
      await vm?.[Symbol.asyncDispose]();
      return ms;
    },
  );
  return [
    {
      id: "create",
      what: "create → first `echo` answered",
      unit: "ms",
      product: a,
      baseline: { what: "QEMU resume of the same snapshot + `echo` on the agent's stream", samples: b },
      target: { kind: "ratio_max", value: 1.3 },
      note: "disk and network place of the raw VM are prepared before its clock starts; the product's are part of its time.",
    },
  ];
}

async function measureEcho(bench: Bench): Promise<Figure[]> {
  const name = uniqueName("echo");
  await createSprite(bench.daemon, name);
  await execRaw(bench.daemon, name, { cmd: ["true"] });
  await using place = await bench.place();
  await using vm = await startRawVm(bench.template, place);
  const { a, b } = await interleave(
    bench.rounds * 8,
    () =>
      timed(async () => {
        const exec = await ExecSocket.open(bench.daemon, name, { cmd: ["echo", "hello"], stdin: "false" });
        await exec.until("the exit", () => exec.exitPayload !== undefined);
        exec.drop();
      }),
    () => timed(() => runOnStream(vm.link, ["echo", "hello"], () => {})),
  );
  await deleteSprite(bench.daemon, name);
  return [
    {
      id: "echo",
      what: "exec `echo`: request → exit, on a new WebSocket each",
      unit: "ms",
      product: a,
      baseline: { what: "the same on the agent's stream", samples: b },
      target: { kind: "ratio_max", value: 1.25 },
    },
  ];
}

async function measureBurst(bench: Bench): Promise<Figure[]> {
  const values = { product: [] as number[], raw: [] as number[] };
  let refusals = 0;
  for (let round = 0; round < Math.max(1, Math.floor(bench.rounds / 3)); round += 1) {
    const names = Array.from({ length: AT_ONCE }, () => uniqueName("burst"));
    const count = async (name: string): Promise<void> => {
      const again = await createAndEchoPatiently(bench.daemon, name);
      refusals += again;
    };
    values.product.push(await timed(() => Promise.all(names.map(count))));
    await Promise.all(names.map((name) => deleteSprite(bench.daemon, name)));
    const places = await Promise.all(names.map(() => bench.place()));
    const vms: Awaited<ReturnType<typeof startRawVm>>[] = [];
    values.raw.push(
      await timed(() =>
        Promise.all(
          places.map(async (place) => {
            const vm = await startRawVm(bench.template, place);
            vms.push(vm);
            await firstOutput(vm);
          }),
        ),
      ),
    );
    await Promise.all(vms.map((vm) => vm[Symbol.asyncDispose]()));
    await Promise.all(places.map((place) => place[Symbol.asyncDispose]()));
  }
  return [
    {
      id: "burst",
      what: `${AT_ONCE} creates at once, all answered`,
      unit: "ms",
      product: samplesOf(values.product),
      baseline: { what: `${AT_ONCE} raw QEMUs doing the same`, samples: samplesOf(values.raw) },
      target: { kind: "ratio_max", value: 1.3 },
      note:
        refusals === 0
          ? "every request was answered at its first asking."
          : `${refusals} requests waited longer than the server allows and asked again.`,
    },
  ];
}

async function measureStdout(bench: Bench): Promise<Figure[]> {
  const piece = randomBytes(64 * 1024 * 1024);
  const copies = 4;
  const expected = createHash("sha256");
  for (let copy = 0; copy < copies; copy += 1) expected.update(piece);
  const wanted = expected.digest("hex");
  const totalMb = (piece.length * copies) / MB;
  const argv = ["cat", ...Array.from({ length: copies }, () => "/home/sprite/piece")];

  const name = uniqueName("stdout");
  await createSprite(bench.daemon, name);
  const filled = await execRaw(bench.daemon, name, { cmd: ["sh", "-c", "cat > /home/sprite/piece"] }, piece);
  if (filled.code !== 0) throw new Error("the sprite could not be filled");
  await using place = await bench.place();
  await using vm = await startRawVm(bench.template, place);
  await fillRaw(vm, piece);

  const { a, b } = await interleave(
    Math.max(2, Math.floor(bench.rounds / 3)),
    async () => {
      const hash = createHash("sha256");
      const ms = await timed(async () => {
        const exec = await ExecSocket.open(bench.daemon, name, { cmd: argv, stdin: "false" });
        exec.onOutput = (data) => void hash.update(data);
        await exec.end(180_000);
      });
      requireSame(hash.digest("hex"), wanted, "through the API");
      return totalMb / (ms / 1000);
    },
    async () => {
      const hash = createHash("sha256");
      const ms = await timed(() => runOnStream(vm.link, argv, (data) => void hash.update(data)));
      requireSame(hash.digest("hex"), wanted, "on the agent's stream");
      return totalMb / (ms / 1000);
    },
  );
  await deleteSprite(bench.daemon, name);
  return [
    {
      id: "stdout",
      what: "stdout of 256 MiB through exec, every byte hashed",
      unit: "MB/s",
      product: a,
      baseline: { what: "the same command on the agent's stream, hashed as well", samples: b },
      target: { kind: "ratio_min", value: 0.7 },
    },
  ];
}

/** Writes the same file into the raw VM, through its agent's stream. */
async function fillRaw(vm: Awaited<ReturnType<typeof startRawVm>>, piece: Buffer): Promise<void> {
  const stream = await vm.link.startSession("1", {
    argv: ["sh", "-c", "cat > /home/sprite/piece"],
    env: {},
    dir: null,
    tty: null,
    stdin: true,
  });
  const sending = stream.sendInput(0, piece).then(() => stream.endInput(piece.length));
  for await (const event of stream.events)
    if (event.type === "exit" && event.exit.code !== 0) throw new Error("the raw VM could not be filled");
  await sending;
}

function requireSame(found: string, wanted: string, where: string): void {
  if (found !== wanted) throw new Error(`output ${where} is damaged: ${found}, expected ${wanted}`);
}

async function measureIdle(bench: Bench): Promise<Figure[]> {
  const name = uniqueName("idle");
  await createAndEcho(bench.daemon, name);
  const [pid] = await bench.daemon.vmPids();
  if (pid === undefined) throw new Error("the idle sprite has no VM");
  await using bare = await startBareGuest(bench.template, {
    directory: path.join(bench.rawDirectory, "bare"),
    kernel: bench.kernelPath,
    commandLine: bench.commandLine,
    initrd: bareInitrd(),
  });
  await waitFor("the bare guest to sleep", { timeoutMs: 90_000 }, async () => (await cpuPercent(bare.pid, 2_000)) < 20);
  await sleep(SETTLE_MS);
  const [ours, theirs] = await Promise.all([cpuPercent(pid, CPU_WINDOW_MS), cpuPercent(bare.pid, CPU_WINDOW_MS)]);
  await deleteSprite(bench.daemon, name);
  return [
    {
      id: "idle",
      what: "CPU of an idle running VM, agent connected",
      unit: "% of a core",
      product: samplesOf([ours]),
      baseline: { what: "bare guest of the same kernel, asleep", samples: samplesOf([theirs]) },
      target: { kind: "difference_max", value: 1 },
      note: `both in the same ${CPU_WINDOW_MS / 1000} s; the bare guest's only program waits for ever.`,
    },
  ];
}

async function measureMemory(bench: Bench): Promise<Figure[]> {
  const names = Array.from({ length: 50 }, () => uniqueName("memory"));
  for (let at = 0; at < names.length; at += 10)
    await Promise.all(names.slice(at, at + 10).map((name) => createAndEchoPatiently(bench.daemon, name)));
  await sleep(SETTLE_MS);
  const pids = await bench.daemon.vmPids();
  const pss = await Promise.all(pids.map(pssMb));
  const rss = await rssMb(bench.daemon.pid);
  for (let at = 0; at < names.length; at += 10) await Promise.all(names.slice(at, at + 10).map((name) => deleteSprite(bench.daemon, name)));
  return [
    {
      id: "pss",
      what: `memory of an idle VM (PSS, ${pids.length} running)`,
      unit: "MB",
      product: samplesOf(pss),
      baseline: undefined,
      target: undefined,
      note: "with emulation up to 64 MB of it is QEMU's cache of translated code.",
    },
    {
      id: "rss",
      what: "daemon, resident, 50 sprites running",
      unit: "MB",
      product: samplesOf([rss]),
      baseline: undefined,
      target: { kind: "value_max", value: 200 },
    },
  ];
}

async function measureMany(bench: Bench): Promise<Figure[]> {
  await using few = await DaemonProcess.open();
  await using many = await DaemonProcess.open();
  await fill(few, 10);
  await fill(many, 1000);
  const createIn = (daemon: DaemonProcess) => async (): Promise<number> => {
    const name = uniqueName("one-more");
    const ms = await timed(() => createSprite(daemon, name));
    await deleteSprite(daemon, name);
    return ms;
  };
  const create = await interleave(bench.rounds * 4, createIn(many), createIn(few));
  const page = await ask(many, "/v1/sprites?max_results=1000");
  const count = (page.json()["sprites"] as unknown[]).length;
  if (count !== 1000) throw new Error(`a page of 1,000 has ${count}`);
  await using plain = await startJsonServer(bench.rawDirectory, page.body);
  const list = await interleave(
    bench.rounds * 4,
    () => timed(() => download(`${many.baseUrl}/v1/sprites?max_results=1000`, many.token)),
    () => timed(() => download(plain.url, "")),
  );
  return [
    {
      id: "create-1000",
      what: "create (disk and record) with 1,000 sprites existing",
      unit: "ms",
      product: create.a,
      baseline: { what: "with 10 existing", samples: create.b },
      target: { kind: "ratio_max", value: 1.25 },
    },
    {
      id: "list-1000",
      what: `page of 1,000 sprites, ${Math.round(page.body.length / 1000)} kB`,
      unit: "ms",
      product: list.a,
      baseline: { what: "the same JSON serialised and sent by a bare node:http server", samples: list.b },
      target: { kind: "ratio_max", value: 3 },
    },
  ];
}

async function fill(daemon: DaemonProcess, count: number): Promise<void> {
  const names = Array.from({ length: count }, () => uniqueName("existing"));
  for (let at = 0; at < names.length; at += 16) await Promise.all(names.slice(at, at + 16).map((name) => createSprite(daemon, name)));
}
