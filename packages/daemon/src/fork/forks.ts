/**
 * Forks: sprites that begin with another's state (docs/spec/forks.md). The source is copied once,
 * however many there are; each fork is cloned from that copy, which is then thrown away.
 *
 * Invariants: all forks or none, also when the daemon dies on the way; the source keeps its identity, its sessions and its connections;
 * a fork's identity is its own before its first command.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, type Logger, Scope } from "@sprited/base";
import { API_LIMITS, spriteNameProblem } from "@sprited/protocol/api";
import { ApiError } from "@sprited/protocol/errors";
import { type CheckpointFiles, pathsIn, type SpriteStates, type StateFiles } from "../checkpoint/index.ts";
import type { Activities, Batches, SpriteOrigin, Sprites, SpriteView } from "../sprite/index.ts";

/** Forks of one call. */
const FORKS_MAX = 100;
/** Forks made at once: many flushes at a time cost the disk little more than one. */
const PARALLEL = 16;

export interface ForkRequest {
  organizationId: string;
  /** The sprite that is copied. */
  source: string;
  /** Names of the forks; left out: `count` names made of the source's. */
  names?: readonly string[] | undefined;
  count?: number | undefined;
  /** Whether the running processes are copied too. */
  memory: boolean;
  /** Left out: the source's. */
  labels?: readonly string[] | undefined;
}

export interface ForksOptions {
  sprites: Pick<Sprites, "create" | "get">;
  batches: Pick<Batches, "finish" | "abandon">;
  states: SpriteStates;
  files: CheckpointFiles;
  activities: Activities;
  /** Directory for throwaway copies; emptied at start. */
  scratch: string;
  logger: Logger;
}

export class Forks {
  readonly #options: ForksOptions;

  constructor(options: ForksOptions) {
    this.#options = options;
  }

  /** Makes every fork or none. Throws `fork_invalid`, `sprite_name_taken`, and what copying throws. */
  async fork(request: ForkRequest, options: { signal?: AbortSignal | undefined } = {}): Promise<SpriteView[]> {
    const { sprites, batches, logger } = this.#options;
    const startedMs = performance.now();
    const source = sprites.get(request.organizationId, request.source);
    const names = forkNames(request, source.name);
    using _hold = this.#options.activities.hold(source.id, "operation", `${names.length} fork${names.length === 1 ? "" : "s"}`);
    await using copy = await this.#copy(source.id, request.memory);
    const origin: SpriteOrigin = {
      diskPath: copy.files.diskPath,
      image: { name: source.imageName, digest: source.imageDigest },
      diskBytes: copy.diskBytes,
      memory: copy.files.memory,
    };
    const batchId = randomBytes(6).toString("hex");
    await using made = new Scope(`forks of ${source.name}`);
    made.defer("forks", () => batches.abandon(batchId));
    const waiting = [...names];
    const one = async (): Promise<void> => {
      for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
        await sprites.create(
          {
            organizationId: request.organizationId,
            name,
            config: source.config,
            environment: source.environment,
            labels: [...(request.labels ?? source.labels)],
            urlSettings: { auth: "sprite", privateAccess: source.urlSettings.privateAccess },
            imageName: source.imageName,
          },
          { signal: options.signal, origin, batchId },
        );
      }
    };
    const results = await Promise.allSettled(Array.from({ length: Math.min(PARALLEL, names.length) }, () => one()));
    const failed = results.find((result) => result.status === "rejected");
    if (failed) throw failed.reason;
    batches.finish(batchId);
    made.move();
    logger.info(
      {
        event: "sprite.fork",
        outcome: "ok",
        spriteId: source.id,
        count: names.length,
        memory: copy.files.memory !== undefined,
        pausedMs: Math.round(copy.pausedMs),
        durationMs: Math.round(performance.now() - startedMs),
      },
      "forked",
    );
    return names.map((name) => sprites.get(request.organizationId, name));
  }

  /** One copy of the source that all forks are cloned from; goes when disposed. */
  async #copy(spriteId: string, memory: boolean): Promise<AsyncDisposable & { files: StateFiles; pausedMs: number; diskBytes: number }> {
    const { files, states, scratch } = this.#options;
    const paths = pathsIn(path.join(scratch, `fork-${randomBytes(6).toString("hex")}`));
    await fs.mkdir(paths.directory, { recursive: true, mode: 0o700 });
    const remove = (): Promise<void> => fs.rm(paths.directory, { recursive: true, force: true }).catch(ignore("emptied at the next start"));
    try {
      const { value, pausedMs } = await states.copy(spriteId, { memory }, async (source) => {
        await files.copy(source, paths);
        return source.memory?.record;
      });
      const { ramPath, statePath, diskPath } = paths;
      return {
        files: { diskPath, memory: value ? { ramPath, statePath, record: value } : undefined },
        pausedMs,
        diskBytes: (await fs.stat(diskPath)).blocks * 512,
        [Symbol.asyncDispose]: remove,
      };
    } catch (error) {
      await remove();
      throw error;
    }
  }
}

/** The names of the forks, each a valid one. Throws `fork_invalid`. */
export function forkNames(request: Pick<ForkRequest, "names" | "count">, source: string): string[] {
  if (request.names !== undefined && request.count !== undefined && request.count !== request.names.length)
    throw new ApiError("fork_invalid", `count is ${request.count}, but ${request.names.length} names were given`);
  const count = request.names?.length ?? request.count ?? 1;
  if (count < 1 || count > FORKS_MAX)
    throw new ApiError("fork_invalid", `between 1 and ${FORKS_MAX} forks can be made at once, not ${count}`);
  const names = request.names ?? Array.from({ length: count }, () => madeName(source));
  if (new Set(names).size !== names.length) throw new ApiError("fork_invalid", "the names of the forks must differ");
  for (const name of names) {
    const problem = spriteNameProblem(name);
    if (problem !== undefined) throw new ApiError("name_invalid", problem, { details: { field: "names" } });
  }
  return [...names];
}

/** The source's name with a few letters nobody else has. */
function madeName(source: string): string {
  const suffix = `-${randomBytes(3).toString("hex")}`;
  return `${source.slice(0, API_LIMITS.spriteNameMax - suffix.length).replace(/-+$/, "")}${suffix}`;
}
