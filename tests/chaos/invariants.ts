/**
 * What must be true after every recovery (LIFE-10, CKPT-1, CKPT-13, JOB-9, POOL-13, EXEC-5). What
 * the daemon settles in the background is waited for, not longer than a bound.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, waitFor } from "@sprited/base";
import { readDisk } from "../kit/light-guest.ts";
import type { ChaosHome, Daemon } from "./home.ts";
import type { OwedSprite } from "./model.ts";
import type { StepContext } from "./steps.ts";
import { look } from "./steps.ts";

/** How long the background may take to come to rest, ms. */
const REST_TIMEOUT_MS = 5_000;
const PAGE = { maxResults: 500 };

class Violation extends Error {
  override readonly name = "Violation";
}

function require(condition: boolean, text: string): void {
  if (!condition) throw new Violation(text);
}

/** Checks everything; adopts into the model what was open and is known now. */
export async function checkInvariants(home: ChaosHome, context: StepContext): Promise<void> {
  const { daemon } = context;
  await daemon.program.run(async () => {
    checkNames(context);
    await eventually(() => checkHost(home, daemon));
    for (const sprite of context.model.sure()) {
      await checkCheckpoints(home, context, sprite);
      await checkJobs(daemon, sprite, { mustHaveEnded: false });
      await checkOutput(daemon, sprite);
    }
    await checkClaims(context);
  });
  for (const sprite of context.model.sure()) if (context.random.chance(0.5)) await look(context, sprite);
}

/** Waits until every acknowledged job has ended, and checks how. */
export async function checkJobsEnd(context: StepContext): Promise<void> {
  const { features, organizationId } = context.daemon;
  await context.daemon.program.run(async () => {
    for (const sprite of context.model.sure()) {
      // One that was put to sleep in the middle of a job goes on when it is woken.
      if (sprite.jobs.size > 0) await features.sprites.wake(organizationId, sprite.name);
      await eventually(() => checkJobs(context.daemon, sprite, { mustHaveEnded: true }));
    }
  });
}

async function eventually(check: () => Promise<void>): Promise<void> {
  let last: unknown;
  const passed = async (): Promise<boolean> => {
    try {
      await check();
      return true;
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      last = error;
      return false;
    }
  };
  await waitFor("rest", { timeoutMs: REST_TIMEOUT_MS, everyMs: 5 }, passed).catch(() => {
    throw last;
  });
}

/** Nothing that was acknowledged is missing, nothing that was deleted is back. */
function checkNames({ daemon, model }: StepContext): void {
  const found = daemon.features.sprites.list(daemon.organizationId, PAGE).sprites;
  const names = new Set(found.map(({ name }) => name));
  for (const sprite of found) {
    require(sprite.failure === undefined, `${sprite.name} has failed: ${sprite.failure}`);
    require(!model.deleted.has(sprite.name), `${sprite.name} was deleted and is back`);
    require(model.sprites.has(sprite.name), `${sprite.name} was never asked for`);
  }
  for (const batch of model.batches.splice(0)) {
    const there = batch.names.filter((name) => names.has(name));
    require(there.length === 0 || !batch.isRefused, `${there.join(", ")} was refused and is there`);
    require([0, batch.names.length].includes(there.length), `of ${batch.names.join(", ")} only ${there.join(", ")} is there`);
  }
  for (const sprite of model.sprites.values()) {
    require(names.has(sprite.name) || !sprite.isSure || sprite.isDoomed, `${sprite.name} was acknowledged and is gone`);
    if (!names.has(sprite.name)) model.gone(sprite.name);
    else {
      sprite.isSure = true;
      // A deletion that had begun is finished at the start: one that is not there any more had not.
      sprite.isDoomed = false;
    }
  }
}

/** The host holds what records name, and nothing else. */
async function checkHost(home: ChaosHome, { features }: Daemon): Promise<void> {
  const { layout, host, slots } = home;
  const incarnations = features.sprites.incarnations().sort();
  same(
    "VMs",
    host.running().map(({ spec }) => spec.incarnation),
    incarnations,
  );
  same("run directories", await names(layout.run), incarnations);
  same(
    "slots",
    slots.taken,
    slots.taken.filter((index) => host.running().some(({ spec }) => spec.nics[0]?.tap === `sim${index}m`)),
  );
  const ids = features.sprites.ids();
  same("sprite directories", await names(layout.sprites), ids);
  same("throwaway clones", await names(layout.scratch), []);
  const owned = new Set(ids);
  for (const id of await names(layout.checkpoints)) require(owned.has(id), `checkpoints of ${id}, which is gone`);
  for (const id of await names(layout.sessions)) require(owned.has(id), `session logs of ${id}, which is gone`);
  same("templates", await names(layout.templates), features.templates.ids());
  const garbage = await features.garbage.run({ dryRun: true, nowMs: Date.now() + 10 * 3_600_000 });
  require(garbage.length === 0, `garbage: ${JSON.stringify(garbage)}`);
  for (const id of ids) await checkDirectory(path.join(layout.sprites, id), id);
}

/** A sprite's directory holds its disk and at most its memory. */
async function checkDirectory(directory: string, id: string): Promise<void> {
  const strange = (await names(directory)).filter((name) => name !== "disk.raw" && name !== "memory");
  require(strange.length === 0, `${id} holds ${strange.join(", ")}`);
}

function same(what: string, found: readonly (string | number)[], expected: readonly (string | number)[]): void {
  const [left, right] = [found, expected].map((list) => JSON.stringify(list.map(String).sort()));
  require(left === right, `${what}: ${left} are there, ${right} are known`);
}

async function names(directory: string): Promise<string[]> {
  return (await fs.readdir(directory).catch(ignore("not made yet"))) ?? [];
}

/** Every acknowledged checkpoint is there with its content, and passed or passes its check. */
async function checkCheckpoints(home: ChaosHome, { daemon }: StepContext, sprite: OwedSprite): Promise<void> {
  const { features, organizationId } = daemon;
  const { id: spriteId } = features.sprites.get(organizationId, sprite.name);
  const { checkpoints } = features.checkpoints.list(organizationId, sprite.name, { includeAuto: true });
  for (const [id, content] of sprite.checkpoints) {
    const found = checkpoints.find((each) => each.id === id);
    if (!found && sprite.mayBeGone.has(id)) {
      sprite.checkpoints.delete(id);
      sprite.mayBeGone.delete(id);
      continue;
    }
    require(found !== undefined, `checkpoint ${id} of ${sprite.name} was acknowledged and is gone`);
    require(found?.state !== "failed", `checkpoint ${id} of ${sprite.name} failed its check: ${found?.health}`);
    const value = readDisk(path.join(home.layout.checkpoints, spriteId, id, "disk.raw"));
    require(content.has(value), `checkpoint ${id} of ${sprite.name} holds ${value}, owed is one of ${[...content].join(", ")}`);
    sprite.checkpoints.set(id, new Set([value]));
  }
  same(
    `checkpoints of ${sprite.name}`,
    await names(path.join(home.layout.checkpoints, spriteId)),
    checkpoints.map(({ id }) => id),
  );
}

/** Every acknowledged job runs or has ended in a way that is told. */
async function checkJobs(daemon: Daemon, sprite: OwedSprite, { mustHaveEnded }: { mustHaveEnded: boolean }): Promise<void> {
  const { features, organizationId } = daemon;
  for (const [id, count] of sprite.jobs) {
    const job = features.jobs.get(organizationId, sprite.name, id);
    const what = `job ${id} of ${sprite.name}`;
    require(job.state !== "starting", `${what} was acknowledged and is starting`);
    if (job.state === "running") {
      require(!mustHaveEnded, `${what} does not end`);
      continue;
    }
    if (job.state === "lost") require((job.reason ?? "") !== "", `${what} is lost without a reason`);
    else require(job.state === "exited" && job.exitCode === 0, `${what} ended as ${job.state} ${job.exitCode}`);
    if (job.state === "exited") require((await logOf(daemon, sprite, id)) === allLines(count), `${what} has not all of its log`);
    sprite.jobs.delete(id);
  }
}

function allLines(count: number): string {
  return Array.from({ length: count }, (_, index) => `line ${count - 1 - index}\n`).join("");
}

async function logOf({ features, organizationId }: Daemon, sprite: OwedSprite, jobId: string): Promise<string> {
  const signal = new AbortController().signal;
  const log = await features.jobs.readLog(organizationId, sprite.name, jobId, { stream: "stdout", offset: 0, follow: false, signal });
  return await textOf(log);
}

async function textOf(log: AsyncIterable<{ kind: string; data?: Uint8Array }> | undefined): Promise<string> {
  let text = "";
  for await (const piece of log ?? []) text += piece.data ? Buffer.from(piece.data).toString() : "";
  return text;
}

/** What a client got can be read again. */
async function checkOutput({ features, organizationId }: Daemon, sprite: OwedSprite): Promise<void> {
  for (const [id, got] of sprite.got) {
    const session = features.exec.find(organizationId, sprite.name, id);
    require(session !== undefined, `session ${id} of ${sprite.name} was answered and is gone`);
    const log = session?.readLog({ stream: "stdout", offset: 0, follow: false, signal: new AbortController().signal });
    const text = await textOf(log);
    require(text.startsWith(got), `session ${id} of ${sprite.name} kept ${JSON.stringify(text)}, a client got ${JSON.stringify(got)}`);
    sprite.got.delete(id);
  }
}

/** A claim that was answered is answered the same when it is asked again (POOL-6). */
async function checkClaims({ daemon, model }: StepContext): Promise<void> {
  for (const [key, { pool, name }] of model.claims) {
    if (!model.sure().some((sprite) => sprite.name === name)) {
      model.claims.delete(key);
      continue;
    }
    const again = await daemon.features.pools.claim(daemon.organizationId, pool, {
      name,
      labels: [],
      environment: {},
      idempotencyKey: key,
      isPatient: false,
    });
    require(again.name === name, `claim ${key} was answered with ${name} and is ${again.name} now`);
  }
}
