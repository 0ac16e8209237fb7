/** Several clients typing into one session while connections and daemons end: each one's bytes once and in order. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { sleep, waitFor } from "@sprited/base";
import { type LastingConnection, openLastingExec } from "@sprited/protocol/client/lasting-exec";
import type { ExecWhat } from "@sprited/protocol/client/exec";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CuttingProxy, seededNumbers } from "../kit/cutting-proxy.ts";
import { ask } from "../kit/http.ts";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";

const BYTES = 1_500_000;

let daemon: SimulatedTarget;
beforeAll(async () => {
  daemon = await openSimulated();
  await ask(daemon, "/v1/sprites", { method: "POST", json: { name: "box" } });
}, 60_000);
afterAll(() => daemon[Symbol.asyncDispose]());

/** A client's bytes: its letters in an order that no other stretch of them has. */
function tagged(letters: string, seed: number): Buffer {
  const next = seededNumbers(seed, 0, letters.length - 1);
  return Buffer.from(Array.from({ length: BYTES }, () => letters.charCodeAt(next())));
}

function only(data: Buffer, letters: string): Buffer {
  const wanted = new Set(Buffer.from(letters));
  return data.filter((byte) => wanted.has(byte)) as Buffer;
}

test("[EXEC-15][EXEC-25] clients that type at once, cut at random and over restarts, are each heard once and in order", async () => {
  const file = path.join(daemon.layout.root, "user", "heard");
  // Stands still between its helpings, so that there is always input that the guest has and the command has not.
  const script = `for i in $(seq 1 12); do head -c ${(3 * BYTES) / 12} >> heard; sleep 0.2; done`;
  await using first = await CuttingProxy.open(daemon.baseUrl, { bytes: seededNumbers(3, 30_000, 500_000) });
  await using second = await CuttingProxy.open(daemon.baseUrl, { bytes: seededNumbers(5, 10_000, 300_000) });
  const open = async (proxy: { url: string }, what: ExecWhat): Promise<LastingConnection> =>
    await openLastingExec(
      { baseUrl: proxy.url, token: daemon.token, sprite: "box" },
      what,
      { output: () => {} },
      { reconnectForMs: 60_000 },
    );
  const starter = await open(first, { kind: "command", argv: ["bash", "-c", script], stdin: true, maxRunAfterDisconnect: "60s" });
  const attach: ExecWhat = { kind: "attach", sessionId: starter.info.session_id };
  const clients = [
    { connection: starter, letters: "abcdefghijklm", pieces: seededNumbers(7, 1, 40_000) },
    { connection: await open(second, attach), letters: "NOPQRSTUVWXYZ", pieces: seededNumbers(9, 1, 9_000) },
    { connection: await open(second, attach), letters: "0123456789", pieces: seededNumbers(11, 1, 20_000) },
  ];
  const typing = clients.map(async ({ connection, letters, pieces }, index) => {
    const input = tagged(letters, index);
    for (let at = 0; at < BYTES;) {
      const piece = input.subarray(at, at + pieces());
      await connection.write(piece);
      at += piece.length;
      await sleep(1);
    }
  });
  for (let restarts = 0; restarts < 3; restarts += 1) {
    const before = await heardBytes(file);
    await waitFor("more of the input", { timeoutMs: 60_000, everyMs: 20 }, async () => (await heardBytes(file)) > before);
    await daemon.restart();
  }
  await Promise.all(typing);
  expect(await Promise.all(clients.map(({ connection }) => connection.ended))).toEqual([0, 0, 0]);
  const heard = await readFile(file);
  expect(heard).toHaveLength(3 * BYTES);
  for (const [index, { letters }] of clients.entries()) expect(only(heard, letters).equals(tagged(letters, index))).toBe(true);
  expect(first.cuts + second.cuts).toBeGreaterThan(5);
}, 180_000);

async function heardBytes(file: string): Promise<number> {
  return await readFile(file).then(
    (data) => data.length,
    () => 0,
  );
}
