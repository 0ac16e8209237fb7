/**
 * A stand-in for whatever lives at an address: listens and dials on command. Runs in one
 * namespace of the test's world; commands and answers are JSON lines on stdin and stdout.
 * A server answers with its banner and the address it saw, so that a test knows who was reached.
 */
import dgram from "node:dgram";
import net from "node:net";
import readline from "node:readline";

/** What an actor can be told. */
export type ActorCommand =
  | { op: "listen"; protocol: "tcp" | "udp"; host: string; port: number; banner: string }
  | { op: "dial"; protocol: "tcp" | "udp"; host: string; port: number; localAddress?: string; timeoutMs: number; hold?: boolean }
  /** Writes on the connection that was held last. */
  | { op: "say"; text: string }
  /** Ends this direction of the connection that was held last. */
  | { op: "hang up" }
  /** Waits until the connection that was held last fails; tells the code, or `none` after `timeoutMs`. */
  | { op: "failure"; timeoutMs: number }
  /** Everything that arrived so far, `protocol banner address`, and `said …` for what came over a connection. */
  | { op: "seen" };

/** `answer`: what came back. `error`: why nothing came. */
export interface DialResult {
  answer?: string;
  error?: string;
}

const seen: string[] = [];
/** Kept so that they are not collected and closed. */
const held: net.Socket[] = [];

async function listen(command: Extract<ActorCommand, { op: "listen" }>): Promise<true> {
  const { protocol, host, port, banner } = command;
  if (protocol === "tcp") {
    const server = net.createServer((socket) => {
      seen.push(`tcp ${banner} ${socket.remoteAddress}`);
      socket.on("error", () => {});
      socket.on("data", (data) => seen.push(`said ${data.toString()}`));
      socket.write(`${banner} ${socket.remoteAddress}\n`);
    });
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, host, resolve));
    return true;
  }
  const socket = dgram.createSocket("udp4");
  socket.on("message", (_, from) => {
    seen.push(`udp ${banner} ${from.address}`);
    socket.send(`${banner} ${from.address}\n`, from.port, from.address);
  });
  await new Promise<void>((resolve, reject) => socket.once("error", reject).bind(port, host, resolve));
  return true;
}

async function dial(command: Extract<ActorCommand, { op: "dial" }>): Promise<DialResult> {
  return command.protocol === "tcp" ? dialTcp(command) : dialUdp(command);
}

async function dialTcp({ host, port, localAddress, timeoutMs, hold }: Extract<ActorCommand, { op: "dial" }>): Promise<DialResult> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port, ...(localAddress ? { localAddress } : {}) });
    const end = (result: DialResult): void => {
      if (hold && result.answer) {
        socket.setTimeout(0);
        held.push(socket);
      } else socket.destroy();
      resolve(result);
    };
    socket.setTimeout(timeoutMs, () => end({ error: "timeout" }));
    socket.on("error", (error: NodeJS.ErrnoException) => end({ error: error.code ?? "unknown" }));
    socket.once("data", (data) => end({ answer: data.toString().trim() }));
  });
}

async function failure(socket: net.Socket | undefined, timeoutMs: number): Promise<string> {
  const known = socket?.errored as NodeJS.ErrnoException | null | undefined;
  if (!socket || known) return known?.code ?? "unknown";
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve("none"), timeoutMs);
    socket.once("error", (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      resolve(error.code ?? "unknown");
    });
  });
}

async function dialUdp({ host, port, localAddress, timeoutMs }: Extract<ActorCommand, { op: "dial" }>): Promise<DialResult> {
  return new Promise((resolve) => {
    const socket = dgram.createSocket("udp4");
    const end = (result: DialResult): void => {
      clearTimeout(timer);
      socket.close();
      resolve(result);
    };
    const timer = setTimeout(() => end({ error: "timeout" }), timeoutMs);
    socket.on("error", (error: NodeJS.ErrnoException) => end({ error: error.code ?? "unknown" }));
    socket.once("message", (data) => end({ answer: data.toString().trim() }));
    socket.bind(0, localAddress, () => {
      if (host === "255.255.255.255") socket.setBroadcast(true);
      socket.send("question", port, host, (error) => {
        if (error) end({ error: (error as NodeJS.ErrnoException).code ?? "unknown" });
      });
    });
  });
}

async function act(command: ActorCommand): Promise<unknown> {
  if (command.op === "listen") return listen(command);
  if (command.op === "dial") return dial(command);
  if (command.op === "say") return held.at(-1)?.write(command.text);
  if (command.op === "hang up") return void held.at(-1)?.end();
  if (command.op === "failure") return failure(held.at(-1), command.timeoutMs);
  return seen;
}

process.stdout.write('{"id":0,"result":true}\n');
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { id, command } = JSON.parse(line) as { id: number; command: ActorCommand };
  void act(command).then(
    (result) => process.stdout.write(`${JSON.stringify({ id, result })}\n`),
    (error: unknown) => process.stdout.write(`${JSON.stringify({ id, error: String(error) })}\n`),
  );
}
process.exit(0);
