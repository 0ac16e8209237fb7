/**
 * Runs in a network namespace of its own: a connection on loopback, one on the guest's address and
 * one to the outside, which begins and meets silence; then inherited connections are dropped, and
 * what became of each is told as JSON. Arguments: the guest's address, an address outside.
 */
import net from "node:net";
import { waitFor } from "@sprited/base";
import { dropOutsideConnections } from "./inherited.ts";

const [guest, outside] = process.argv.slice(2) as [string, string];
/** For an end that must come, ms. */
const END_TIMEOUT_MS = 10_000;

async function echoServer(host: string): Promise<number> {
  const server = net.createServer((socket) => socket.on("error", () => {}).pipe(socket));
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return (server.address() as net.AddressInfo).port;
}

async function connected(host: string, port: number): Promise<net.Socket> {
  const socket = net.connect(port, host);
  await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  return socket;
}

async function echo(socket: net.Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    socket.once("data", (data) => resolve(data.toString())).once("error", reject);
    socket.write("on");
  });
}

const within = [
  await connected("127.0.0.1", await echoServer("127.0.0.1")),
  await connected(guest, await echoServer(guest)),
  // As programs that listen on all addresses of both families see IPv4.
  await connected(guest, await echoServer("::")),
];
const leaving = net.connect({ host: outside, port: 9, localAddress: guest });
let end: string | undefined;
leaving.once("error", (error: NodeJS.ErrnoException) => {
  end = error.code;
});
await new Promise<void>((resolve) => leaving.once("connectionAttempt", () => resolve()));
const dropped = dropOutsideConnections(guest);
const echoes = await Promise.all(within.map(echo));
await waitFor("the end of the connection to the outside", { timeoutMs: END_TIMEOUT_MS }, () => end !== undefined);
process.stdout.write(JSON.stringify({ dropped, outside: end, echoes, again: dropOutsideConnections(guest) }));
process.exit(0);
