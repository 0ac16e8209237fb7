/**
 * What users do, one step at a time, each with what it teaches the model: an answer is owed from
 * then on, a refusal changes nothing that was owed, a death leaves both outcomes open.
 */
import { Readable } from "node:stream";
import { toApiError } from "@sprited/daemon";
import type { ApiError } from "@sprited/protocol/errors";
import type { Outcome } from "../kit/mortal.ts";
import type { Daemon } from "./home.ts";
import { addAll, type Model, type OwedSprite, visible } from "./model.ts";
import type { Random } from "../kit/random.ts";

export interface StepContext {
  daemon: Daemon;
  model: Model;
  random: Random;
  /** Sprites that a user works on. */
  busy: Set<OwedSprite>;
  /** Notes what is done, for people; the result completes the note. */
  note(text: string): (end: string) => void;
}

type Step = (context: StepContext) => Promise<void>;

/** How long an outcome that depends on work in the background is waited for, ms. */
const PATIENCE_MS = 400;
const SPRITES_MAX = 5;
/** Archives that are still imported. */
const ARCHIVES_MAX = 3;
const ARCHIVE_PIECE_BYTES = 100;
/** What SQLite says of a full disk. */
const SQLITE_FULL = 13;

async function ask<T>(context: StepContext, what: string, work: (daemon: Daemon) => Promise<T> | T): Promise<Outcome<T>> {
  const ended = context.note(`${what} → `);
  const outcome = await context.daemon.program.ask(() => work(context.daemon));
  const refusal = outcome.kind === "failed" ? toApiError(outcome.error) : undefined;
  ended(`${outcome.kind}${refusal ? ` (${refusal.code}): ${String((outcome as { error: Error }).error.message)}` : ""}`);
  // A client that has no more patience is not told anything.
  if (refusal && (refusal.cause as Error | undefined)?.name !== "TimeoutError") requireTyped(refusal);
  return outcome;
}

/** What went wrong is told by a code of its own: a full disk as such, and nothing as a fault nobody knows. */
function requireTyped(refusal: ApiError): void {
  const causes: (Error & { code?: unknown; errcode?: unknown })[] = [];
  for (let cause: unknown = refusal.cause; cause instanceof Error; cause = cause.cause) causes.push(cause);
  const isFull = causes.some(({ code, errcode }) => code === "ENOSPC" || errcode === SQLITE_FULL);
  if (refusal.code === "internal" || (isFull && refusal.code !== "disk_full"))
    throw new Error(`a refusal says ${refusal.code}, which is not what happened`, { cause: refusal });
}

/** Runs a light guest's command; resolves with its whole output. `got` hears of output as it comes. */
export async function command(
  daemon: Daemon,
  name: string,
  argv: string[],
  got: (sessionId: string, text: string) => void = () => {},
): Promise<{ code: number | undefined; output: string }> {
  const { exec } = daemon.features;
  const session = await exec.start(daemon.organizationId, name, {
    work: { kind: "command", argv, env: {}, dir: undefined, tty: undefined, stdin: false },
    runAfterDisconnectMs: undefined,
  });
  const attachment = session.attach();
  let output = "";
  for await (const piece of attachment.output) {
    if (piece.kind !== "output") throw new Error(`output of ${session.id} has a gap at ${piece.position}`);
    output += Buffer.from(piece.data).toString();
    if (!daemon.program.isDead) got(session.id, output);
  }
  const end = await attachment.ended;
  attachment.close();
  return { code: end.kind === "exit" ? (end.exit.code ?? undefined) : undefined, output };
}

const STEPS: Record<string, { weight: number; needsSprite: boolean; run: (context: StepContext, sprite: OwedSprite) => Promise<void> }> = {
  put: { weight: 8, needsSprite: true, run: write },
  touch: { weight: 4, needsSprite: true, run: write },
  get: { weight: 4, needsSprite: true, run: (context, sprite) => look(context, sprite) },
  lines: { weight: 3, needsSprite: true, run: lines },
  sleep: { weight: 8, needsSprite: true, run: sleep },
  wake: { weight: 5, needsSprite: true, run: wake },
  stop: { weight: 3, needsSprite: true, run: stop },
  checkpoint: { weight: 8, needsSprite: true, run: checkpoint },
  restore: { weight: 7, needsSprite: true, run: restore },
  undo: { weight: 3, needsSprite: true, run: undo },
  forget: { weight: 1, needsSprite: true, run: forget },
  fork: { weight: 4, needsSprite: true, run: fork },
  export: { weight: 4, needsSprite: true, run: exportArchive },
  import: { weight: 6, needsSprite: false, run: (context) => importArchive(context) },
  template: { weight: 2, needsSprite: true, run: template },
  pool: { weight: 2, needsSprite: false, run: (context) => pool(context) },
  claim: { weight: 5, needsSprite: false, run: (context) => claim(context) },
  job: { weight: 5, needsSprite: true, run: job },
  delete: { weight: 3, needsSprite: true, run: remove },
  create: { weight: 2, needsSprite: false, run: (context) => create(context) },
};

/** One step of some user. */
export function nextStep(model: Model, random: Random): Step {
  const sprites = model.sure();
  if (sprites.length === 0) return create;
  const choices = Object.entries(STEPS).filter(
    ([name]) => sprites.length < SPRITES_MAX || !["create", "fork", "claim", "import"].includes(name),
  );
  const [name, step] = random.weighted(choices, ([, { weight }]) => weight);
  const sprite = random.pick(sprites);
  return async (context) => {
    if (step.needsSprite && (context.busy.has(sprite) || !context.model.sure().includes(sprite))) return;
    context.busy.add(sprite);
    sprite.isAsleep = false;
    await step.run({ ...context, note: context.note, kind: name } as StepContext, sprite);
    context.busy.delete(sprite);
  };
}

async function create(context: StepContext): Promise<void> {
  const { model, random } = context;
  const name = `s${model.next()}`;
  const [templateName, content] = random.chance(0.3) ? (random.pickMaybe([...model.templates]) ?? []) : [];
  const sprite = model.asked(name, content ?? [0]);
  const request = { name, config: {}, environment: {}, labels: [], urlSettings: {}, imageName: undefined };
  const outcome = await ask(context, `create ${name}${templateName ? ` from ${templateName}` : ""}`, ({ features, organizationId }) =>
    templateName === undefined
      ? features.sprites.create({ ...request, organizationId })
      : features.templates.createSprite(templateName, { ...request, organizationId }),
  );
  settleCreation(sprite, outcome.kind);
  if (outcome.kind !== "ok") model.batches.push({ names: [name], isRefused: outcome.kind === "failed" });
}

function settleCreation(sprite: OwedSprite, kind: Outcome<unknown>["kind"]): void {
  if (kind === "ok") sprite.isSure = true;
  // What failed is gone, unless what broke it broke the cleaning up as well: then it goes later.
  if (kind === "failed") sprite.isDoomed = true;
}

async function write(context: StepContext, sprite: OwedSprite): Promise<void> {
  const value = context.model.next();
  const verb = (context as StepContext & { kind: string }).kind;
  const { crashes } = context.model;
  const outcome = await ask(context, `${verb} ${value} in ${sprite.name}`, (daemon) => command(daemon, sprite.name, [verb, String(value)]));
  if (outcome.kind === "ok" && outcome.value.code === 0) {
    sprite.seen = new Set([value]);
    if (verb === "put") sprite.disk = new Set([value]);
    else sprite.disk.add(value);
    // An answer that was on its way when the VM ended says nothing about the next one.
    sprite.isMemorySure = crashes === context.model.crashes;
    return;
  }
  sprite.seen.add(value);
  sprite.disk.add(value);
}

/** Reads the content; it must be one the model knows. */
export async function look(context: StepContext, sprite: OwedSprite): Promise<void> {
  const { crashes } = context.model;
  sprite.isAsleep = false;
  const outcome = await ask(context, `get in ${sprite.name}`, (daemon) => command(daemon, sprite.name, ["get"]));
  if (outcome.kind !== "ok" || outcome.value.code !== 0) return;
  const found = Number(outcome.value.output);
  const expected = visible(sprite);
  if (!expected.has(found)) {
    const which = sprite.isMemorySure ? "memory kept" : "memory may be lost";
    throw new Error(`${sprite.name} holds ${found}, owed is one of ${[...expected].join(", ")} (${which})`);
  }
  sprite.seen = new Set([found]);
  sprite.disk.add(found);
  sprite.isMemorySure = crashes === context.model.crashes;
}

async function lines(context: StepContext, sprite: OwedSprite): Promise<void> {
  const count = context.random.between(2, 8);
  await ask(context, `lines ${count} in ${sprite.name}`, (daemon) =>
    command(daemon, sprite.name, ["lines", String(count)], (sessionId, text) => sprite.got.set(sessionId, text)),
  );
}

/**
 * What a step that reads the sprite's whole state may meet: asked after the step, because a VM that
 * ends before the step has read may take the memory with it.
 */
function metBy({ model }: StepContext, sprite: OwedSprite): () => Set<number> {
  const { crashes } = model;
  const [known, possible] = [new Set(visible(sprite)), new Set([...sprite.seen, ...sprite.disk])];
  return () => new Set(crashes === model.crashes ? known : possible);
}

async function sleep(context: StepContext, sprite: OwedSprite): Promise<void> {
  const outcome = await ask(context, `sleep ${sprite.name}`, ({ features, organizationId }) =>
    features.sprites.sleep(organizationId, sprite.name),
  );
  sprite.isAsleep = outcome.kind === "ok";
}

async function wake(context: StepContext, sprite: OwedSprite): Promise<void> {
  await ask(context, `wake ${sprite.name}`, ({ features, organizationId }) => features.sprites.wake(organizationId, sprite.name));
}

async function stop(context: StepContext, sprite: OwedSprite): Promise<void> {
  const met = metBy(context, sprite);
  sprite.isMemorySure = false;
  const outcome = await ask(context, `stop ${sprite.name}`, ({ features, organizationId }) =>
    features.sprites.stop(organizationId, sprite.name),
  );
  if (outcome.kind === "ok") sprite.disk = met();
}

async function checkpoint(context: StepContext, sprite: OwedSprite): Promise<void> {
  const memory = context.random.chance(0.4);
  const outcome = await ask(
    context,
    `checkpoint ${sprite.name}${memory ? " with memory" : ""}`,
    ({ features, organizationId }) => features.checkpoints.create(organizationId, sprite.name, { comment: "", memory }).done,
  );
  if (outcome.kind === "ok") sprite.checkpoints.set(outcome.value.id, new Set(visible(sprite)));
}

async function restore(context: StepContext, sprite: OwedSprite): Promise<void> {
  const id = context.random.pickMaybe([...sprite.checkpoints.keys()].filter((known) => !sprite.mayBeGone.has(known)));
  if (id === undefined) return;
  const content = sprite.checkpoints.get(id) ?? new Set<number>();
  await goBack(context, sprite, {
    what: `restore ${sprite.name} to ${id}`,
    contentOf: () => content,
    work: ({ features, organizationId }) => features.checkpoints.restore(organizationId, sprite.name, id).done,
  });
}

async function undo(context: StepContext, sprite: OwedSprite): Promise<void> {
  const everything = new Set([...sprite.unnamed, ...[...sprite.checkpoints.values()].flatMap((values) => [...values])]);
  await goBack(context, sprite, {
    what: `undo in ${sprite.name}`,
    contentOf: (id) => (id === undefined ? everything : (sprite.checkpoints.get(id) ?? everything)),
    work: ({ features, organizationId }) => features.checkpoints.undoRestore(organizationId, sprite.name).done,
  });
}

interface WayBack {
  what: string;
  contentOf(id: string | undefined): Set<number>;
  work(daemon: Daemon): Promise<{ checkpoint: { id: string }; previous: { id: string } }>;
}

async function goBack(context: StepContext, sprite: OwedSprite, { what, contentOf, work }: WayBack): Promise<void> {
  const met = metBy(context, sprite);
  const { crashes } = context.model;
  const wasSure = sprite.isMemorySure;
  sprite.isMemorySure = false;
  const outcome = await ask(context, what, work);
  const before = met();
  if (outcome.kind === "ok") {
    const { checkpoint: target, previous } = outcome.value;
    sprite.checkpoints.set(previous.id, before);
    // Automatic ones beyond the newest may go with the next restore.
    for (const id of sprite.checkpoints.keys()) if (id.startsWith("auto-")) sprite.mayBeGone.add(id);
    sprite.mayBeGone.delete(previous.id);
    sprite.disk = new Set(contentOf(target.id));
    sprite.seen = new Set(sprite.disk);
    return;
  }
  if (outcome.kind === "failed" && (outcome.error as { code?: string }).code === "checkpoint_not_found") {
    sprite.isMemorySure = wasSure && crashes === context.model.crashes;
    return;
  }
  for (const id of sprite.checkpoints.keys()) if (id.startsWith("auto-")) sprite.mayBeGone.add(id);
  addAll(sprite.unnamed, before);
  addAll(sprite.disk, before);
  addAll(sprite.disk, contentOf(undefined));
  addAll(sprite.seen, sprite.disk);
}

async function forget(context: StepContext, sprite: OwedSprite): Promise<void> {
  const id = context.random.pickMaybe([...sprite.checkpoints.keys()].filter((known) => !known.startsWith("auto-")));
  if (id === undefined) return;
  const outcome = await ask(context, `delete checkpoint ${id} of ${sprite.name}`, ({ features, organizationId }) =>
    features.checkpoints.delete(organizationId, sprite.name, id),
  );
  if (outcome.kind === "ok") sprite.checkpoints.delete(id);
  else if ((outcome as { error?: { code?: string } }).error?.code !== "checkpoint_in_use") sprite.mayBeGone.add(id);
}

async function fork(context: StepContext, sprite: OwedSprite): Promise<void> {
  const { model, random } = context;
  const memory = random.chance(0.5);
  const names = Array.from({ length: random.between(1, 2) }, () => `f${model.next()}`);
  const met = metBy(context, sprite);
  const forks = names.map((name) => model.asked(name, met()));
  const outcome = await ask(
    context,
    `fork ${sprite.name} as ${names.join(", ")}${memory ? " with memory" : ""}`,
    ({ features, organizationId }) => features.forks.fork({ organizationId, source: sprite.name, names, memory }),
  );
  for (const each of forks) {
    addAll(each.seen, met());
    addAll(each.disk, met());
    settleCreation(each, outcome.kind);
  }
  if (outcome.kind !== "ok") model.batches.push({ names, isRefused: outcome.kind === "failed" });
}

async function exportArchive(context: StepContext, sprite: OwedSprite): Promise<void> {
  const met = metBy(context, sprite);
  const outcome = await ask(context, `export ${sprite.name}`, async ({ features, organizationId }) => {
    const archive = await features.archives.export({ organizationId, name: sprite.name, checkpointId: undefined });
    return Buffer.concat(await archive.toArray());
  });
  if (outcome.kind === "ok") context.model.archives.push({ bytes: outcome.value, content: met() });
}

/** Imports an archive, or one that was cut off on its way. */
async function importArchive(context: StepContext): Promise<void> {
  const { model, random } = context;
  const archive = random.pickMaybe(model.archives.slice(-ARCHIVES_MAX));
  if (!archive) return;
  const isTorn = random.chance(0.3);
  const bytes = isTorn ? archive.bytes.subarray(0, random.between(0, Math.floor(archive.bytes.length * 0.9))) : archive.bytes;
  const name = `i${model.next()}`;
  const sprite = model.asked(name, archive.content);
  const outcome = await ask(context, `import ${name}${isTorn ? " from a torn archive" : ""}`, ({ features, organizationId }) =>
    features.archives.import({ organizationId, name }, Readable.from(piecesOf(bytes))),
  );
  settleCreation(sprite, outcome.kind);
  if (outcome.kind !== "ok") model.batches.push({ names: [name], isRefused: outcome.kind === "failed" });
  if (!isTorn || outcome.kind === "died") return;
  const code = outcome.kind === "failed" ? toApiError(outcome.error).code : "no refusal";
  if (!["archive_invalid", "disk_full", "disk_failed"].includes(code)) throw new Error(`a torn archive met ${code}`);
}

function* piecesOf(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += ARCHIVE_PIECE_BYTES) yield bytes.subarray(at, at + ARCHIVE_PIECE_BYTES);
}

async function template(context: StepContext, sprite: OwedSprite): Promise<void> {
  const { model, random } = context;
  const name = `t${model.next()}`;
  const memory = random.chance(0.5);
  const met = metBy(context, sprite);
  const outcome = await ask(context, `template ${name} of ${sprite.name}${memory ? " with memory" : ""}`, ({ features, organizationId }) =>
    features.templates.create(
      { organizationId, name, spriteName: sprite.name, checkpointId: undefined, memory, description: "", environment: {}, labels: [] },
      { signal: AbortSignal.timeout(PATIENCE_MS) },
    ),
  );
  if (outcome.kind === "ok") model.templates.set(name, met());
}

async function pool(context: StepContext): Promise<void> {
  const { model, random } = context;
  const templateName = random.pickMaybe([...model.templates.keys()]);
  if (templateName === undefined || model.pools.size >= 2) return;
  const name = `p${model.next()}`;
  const spare = random.chance(0.5) ? "paused" : "hibernated";
  const config = { min: 1, max: 2, spare, setup: undefined, setupTimeoutMs: 10_000, maxAgeMs: undefined, refillPerMinute: 1000 } as const;
  const outcome = await ask(context, `pool ${name} of ${templateName}`, ({ features, organizationId }) =>
    features.pools.create({ organizationId, name, templateName, config }),
  );
  if (outcome.kind === "ok") model.pools.set(name, templateName);
}

async function claim(context: StepContext): Promise<void> {
  const { model, random } = context;
  const poolName = random.pickMaybe([...model.pools.keys()]);
  if (poolName === undefined) return;
  const name = `c${model.next()}`;
  const sprite = model.asked(name, model.templates.get(model.pools.get(poolName) ?? "") ?? [0]);
  const request = { name, labels: [], environment: {}, idempotencyKey: name, isPatient: true };
  const outcome = await ask(context, `claim ${name} from ${poolName}`, ({ features, organizationId }) =>
    features.pools.claim(organizationId, poolName, request, { signal: AbortSignal.timeout(PATIENCE_MS) }),
  );
  settleCreation(sprite, outcome.kind);
  if (outcome.kind === "ok") model.claims.set(name, { pool: poolName, name });
}

async function job(context: StepContext, sprite: OwedSprite): Promise<void> {
  const count = context.random.between(1, 12);
  const request = {
    argv: ["lines", String(count)],
    env: {},
    dir: undefined,
    stdin: undefined,
    timeoutMs: undefined,
    idempotencyKey: undefined,
  };
  const outcome = await ask(context, `job of ${count} lines in ${sprite.name}`, ({ features, organizationId }) =>
    features.jobs.start(organizationId, sprite.name, { ...request, webhook: undefined }),
  );
  if (outcome.kind === "ok") sprite.jobs.set(outcome.value.job.id, count);
}

async function remove(context: StepContext, sprite: OwedSprite): Promise<void> {
  sprite.isDoomed = true;
  const outcome = await ask(context, `delete ${sprite.name}`, ({ features, organizationId }) =>
    features.sprites.delete(organizationId, sprite.name),
  );
  if (outcome.kind === "ok") context.model.gone(sprite.name);
}
