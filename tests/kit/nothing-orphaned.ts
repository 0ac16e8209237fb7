/**
 * Asks whether everything that a daemon's home and host hold is somebody's: what the product's own
 * sweep would remove if it were old enough, what `sprited gc` finds, and VM processes, run
 * directories and control groups that belong to each other.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, waitFor } from "@sprited/base";
import { findSweep } from "@sprited/disk";
import { expect } from "vitest";
import type { DaemonProcess } from "./daemon-process.ts";
import { pidsOf } from "./host-traces.ts";
import { ask } from "./http.ts";

/** What is freed in the background may take so long, ms. */
const REST_TIMEOUT_MS = 120_000;

/** How a failed round of a seeded suite is run again, for people. */
export function repeated(file: string, seed: number, round: number): string {
  return `seed ${seed}, round ${round}; SPRITED_TEST_SEED=${seed} SPRITED_TEST_ROUNDS=${round + 1} npm run test:vm -- ${file} repeats it`;
}

/** Fails unless nothing is orphaned; for homes whose only organization is the test's, without templates. */
export async function expectNothingOrphaned(daemon: DaemonProcess): Promise<void> {
  let last: string[] = [];
  await waitFor("what is under way to end", { timeoutMs: REST_TIMEOUT_MS, everyMs: 250 }, async () => {
    last = await orphans(daemon);
    return last.length === 0;
  }).catch(ignore("what is left tells more"));
  expect(last).toEqual([]);
}

async function orphans(daemon: DaemonProcess): Promise<string[]> {
  const { layout } = daemon.home;
  const { sprites } = (await ask(daemon, "/v1/sprites?max_results=500")).json() as { sprites: { name: string; id: string }[] };
  const ids = new Set(sprites.map(({ id }) => id));
  const swept = await findSweep(layout, { sprites: ids, checkpoints: ids, sessions: ids, templates: new Set() });
  const garbage = (await ask(daemon, "/v1/gc", { method: "POST", json: { dry_run: true } })).json()["items"] as { path: string }[];
  const found = [...swept.map((item) => `${item.reason}: ${item.path}`), ...garbage.map((item) => `garbage: ${item.path}`)];
  for (const { name, id } of sprites) {
    const answer = await ask(daemon, `/v1/sprites/${name}/checkpoints?includeAuto=true`);
    if (answer.status !== 200) continue;
    const known = new Set((JSON.parse(answer.text) as { id: string }[]).map((checkpoint) => checkpoint.id));
    for (const there of await names(path.join(layout.checkpoints, id)))
      if (!known.has(there)) found.push(`checkpoint: ${there} of ${name}, which is not listed`);
    for (const there of await names(path.join(layout.sprites, id)))
      if (!["disk.raw", "memory"].includes(there)) found.push(`file: ${there} of ${name}`);
  }
  return [...found, ...(await unpairedVms(daemon))];
}

/** VM processes without a directory and directories without a process. */
async function unpairedVms(daemon: DaemonProcess): Promise<string[]> {
  const { run, root } = daemon.home.layout;
  const directories = await names(run);
  const commands = (await pidsOf(root)).map(({ command }) => command).filter((command) => /^\S*qemu-system/.test(command));
  const nameOf = (command: string): string => command.match(/ -name guest=(\S+?),/)?.[1] ?? command;
  const running = new Set(commands.map((command) => path.relative(run, nameOf(command))));
  return [
    ...directories.filter((name) => !running.has(name)).map((name) => `run directory: ${name}`),
    ...[...running].filter((name) => !directories.includes(name)).map((name) => `VM: ${name}`),
  ];
}

async function names(directory: string): Promise<string[]> {
  return (await fs.readdir(directory).catch(ignore("not made yet"))) ?? [];
}
