/**
 * Templates of this host: versions in memory, backed by the store, with files of their own.
 *
 * Invariants: a version's files are durable before its record; files without a record are removed
 * at start (TPL-3); a version's files are never changed; exactly one version of a name is current.
 */
import { ignore, type Logger, Scope } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import { v7 as uuidv7 } from "uuid";
import type { CheckpointFiles, CheckpointMeta, StateFiles } from "../checkpoint/index.ts";
import type { CreateSprite, SpriteConfig, SpriteOrigin, Sprites, SpriteView } from "../sprite/index.ts";
import type { CreateTemplate, Templates as TemplatesFeature, TemplateVersion, TemplateView } from "./template.ts";

/** Name of the one state that lies in a version's directory. */
const STATE_ID = "state";

/** A memory runs only in a machine of its own form; a disk keeps its size. */
const FIXED_BY_MEMORY: readonly (keyof SpriteConfig)[] = ["cpus", "memoryMib", "storageGb"];
const FIXED_BY_DISK: readonly (keyof SpriteConfig)[] = ["storageGb"];
/** Sizes as the API names them. */
const SIZE_FIELDS = { cpus: "cpus", memoryMib: "ram_mb", storageGb: "storage_gb" } as const;

/** Where versions come from. */
export interface TemplateSource {
  /**
   * A checkpoint that was verified: the named one, or one taken now. Throws `checkpoint_not_found`,
   * `checkpoint_damaged`, and what taking one throws.
   */
  checkpoint(
    request: { organizationId: string; spriteName: string; checkpointId: string | undefined; memory: boolean },
    options: { signal?: AbortSignal | undefined },
  ): Promise<{ id: string; meta: CheckpointMeta; files: StateFiles }>;
}

/** What the feature needs of the store. Every write is durable when its call returns. */
export interface TemplateRecords {
  loadTemplates(): TemplateVersion[];
  /** Inserts the version and makes it the current one of its name. */
  insertTemplate(version: TemplateVersion): void;
  promoteTemplate(organizationId: string, name: string, version: number): void;
  deleteTemplate(organizationId: string, name: string): void;
}

export interface TemplatesOptions {
  records: TemplateRecords;
  source: TemplateSource;
  sprites: Pick<Sprites, "create">;
  files: CheckpointFiles;
  /** Whether memories of this VMM build can be resumed. */
  canResume(build: string): boolean;
  organizationSlug(organizationId: string): string;
  /** Names of the pools that use a template. */
  poolsOf(organizationId: string, name: string): string[];
  /** Called after every change of what a name stands for. */
  changed(organizationId: string, name: string): void;
  logger: Logger;
  nowMs(): number;
}

export class Templates implements TemplatesFeature {
  readonly #options: TemplatesOptions;
  #versions: TemplateVersion[];

  constructor(options: TemplatesOptions) {
    this.#options = options;
    this.#versions = options.records.loadTemplates();
  }

  /** Removes files that no version has. */
  async recover(): Promise<void> {
    const known = new Set(this.#versions.map(({ id }) => id));
    for (const id of await this.#options.files.spriteIds()) if (!known.has(id)) await this.#options.files.removeAll(id);
  }

  async create(request: CreateTemplate, options: { signal?: AbortSignal } = {}): Promise<TemplateView> {
    const { files, source, records } = this.#options;
    const { organizationId, name } = request;
    const from = await source.checkpoint(request, { signal: options.signal });
    if (request.memory && !from.files.memory) {
      throw new ApiError("template_memory_missing", `the checkpoint ${from.id} was taken without memory`, { details: { field: "memory" } });
    }
    const id = uuidv7();
    await using scope = new Scope(`making the template ${name}`);
    scope.defer("files", () => files.removeAll(id));
    const target = await files.prepare(id, STATE_ID);
    const memory = request.memory ? from.files.memory : undefined;
    await files.copy({ diskPath: from.files.diskPath, memory }, target);
    const createdAtMs = this.#options.nowMs();
    const { config, image } = from.meta;
    const bytes = await files.seal(target, { spriteId: id, id: STATE_ID, createdAtMs, image, config }, memory?.record);
    options.signal?.throwIfAborted();
    const version: TemplateVersion = {
      id,
      organizationId,
      name,
      version: Math.max(0, ...this.#of(organizationId, name).map((one) => one.version)) + 1,
      isCurrent: true,
      sourceSprite: request.spriteName,
      sourceCheckpoint: from.id,
      description: request.description,
      config,
      image,
      environment: request.environment,
      labels: request.labels,
      memoryBuild: memory?.record.build,
      bytes: bytes.diskBytes + bytes.memoryBytes,
      createdAtMs,
    };
    records.insertTemplate(version);
    scope.move();
    this.#versions = [...this.#versions.map((one) => (isNamed(one, version) ? { ...one, isCurrent: false } : one)), version];
    this.#options.changed(organizationId, name);
    return this.get(organizationId, name);
  }

  list(organizationId: string): TemplateView[] {
    const names = new Set(this.#versions.filter((one) => one.organizationId === organizationId).map(({ name }) => name));
    return [...names].sort().map((name) => this.get(organizationId, name));
  }

  get(organizationId: string, name: string): TemplateView {
    const versions = this.#of(organizationId, name).sort((one, other) => other.version - one.version);
    const current = versions.find((one) => one.isCurrent);
    if (!current) throw unknown();
    const { organizationSlug, poolsOf } = this.#options;
    return {
      name,
      organizationId,
      organizationSlug: organizationSlug(organizationId),
      current,
      versions,
      pools: poolsOf(organizationId, name),
    };
  }

  promote(organizationId: string, name: string, version: number): TemplateView {
    if (!this.#of(organizationId, name).some((one) => one.version === version))
      throw unknown(`the template ${name} has no version ${version}`);
    this.#options.records.promoteTemplate(organizationId, name, version);
    this.#versions = this.#versions.map((one) =>
      isNamed(one, { organizationId, name }) ? { ...one, isCurrent: one.version === version } : one,
    );
    this.#options.changed(organizationId, name);
    return this.get(organizationId, name);
  }

  async delete(organizationId: string, name: string, options: { force: boolean }): Promise<void> {
    const { versions, pools } = this.get(organizationId, name);
    if (pools.length > 0 && !options.force)
      throw new ApiError(
        "template_in_use",
        `the template ${name} is used by ${pools.length === 1 ? "the pool" : "the pools"} ${pools.join(", ")}`,
      );
    this.#options.records.deleteTemplate(organizationId, name);
    this.#versions = this.#versions.filter((one) => !isNamed(one, { organizationId, name }));
    this.#options.changed(organizationId, name);
    for (const { id } of versions) {
      await this.#options.files.removeAll(id).catch((err: unknown) => {
        this.#options.logger.warn(
          { event: "template.delete", templateId: id, err },
          "files of a template were not freed; the next start frees them",
        );
      });
    }
  }

  async createSprite(reference: string, request: CreateSprite, options: { signal?: AbortSignal } = {}): Promise<SpriteView> {
    const version = this.resolve(request.organizationId, reference);
    const origin = await this.originOf(version);
    const config = { ...version.config, ...request.config };
    const fixed = origin.memory ? FIXED_BY_MEMORY : FIXED_BY_DISK;
    const wrong = fixed.find((size) => config[size] !== version.config[size]);
    if (wrong !== undefined) {
      throw new ApiError("template_size_fixed", `${SIZE_FIELDS[wrong]} is ${version.config[wrong]} in this template and cannot be chosen`, {
        details: { field: SIZE_FIELDS[wrong] },
      });
    }
    const environment = { ...version.environment, ...request.environment };
    const labels = [...new Set([...version.labels, ...request.labels])];
    return await this.#options.sprites.create({ ...request, config, environment, labels }, { ...options, origin });
  }

  resolve(organizationId: string, reference: string): TemplateVersion {
    const [, name, number] = /^(.*?)(?:@([0-9]{1,9}))?$/.exec(reference) ?? [];
    const versions = this.#of(organizationId, name ?? "");
    const found = versions.find((one) => (number === undefined ? one.isCurrent : one.version === Number(number)));
    if (!found) throw unknown();
    return found;
  }

  /** Digests of the system images that kept memories need. */
  async systems(): Promise<string[]> {
    const { files } = this.#options;
    const kept = this.#versions.filter(({ memoryBuild }) => memoryBuild !== undefined);
    const metas = await Promise.all(kept.map(({ id }) => files.verify(id, STATE_ID).catch(ignore("a damaged one needs nothing"))));
    return [...new Set(metas.flatMap((meta) => meta?.memory?.record.system ?? []))];
  }

  /** Ids of all versions: what the disk sweep must keep. */
  ids(): string[] {
    return this.#versions.map(({ id }) => id);
  }

  /** Ids of all versions of an organization: where their files lie. */
  idsOf(organizationId: string): string[] {
    return this.#versions.filter((one) => one.organizationId === organizationId).map(({ id }) => id);
  }

  /** The current version's number; undefined when there is no such template. */
  currentVersion(organizationId: string, name: string): number | undefined {
    return this.#of(organizationId, name).find((one) => one.isCurrent)?.version;
  }

  /** What a sprite made from a version begins as. Throws `disk_damaged`. */
  async originOf(version: TemplateVersion): Promise<SpriteOrigin> {
    const { files, canResume } = this.#options;
    const meta = await files.verify(version.id, STATE_ID);
    const { diskPath, memory } = files.stateOf(version.id, STATE_ID, meta);
    return {
      diskPath,
      image: version.image,
      diskBytes: version.bytes,
      memory: memory && canResume(memory.record.build) ? memory : undefined,
    };
  }

  /** Whether the memory of a version can be resumed here (TPL-10). */
  memoryState(version: TemplateVersion): "none" | "usable" | "unusable" {
    if (version.memoryBuild === undefined) return "none";
    return this.#options.canResume(version.memoryBuild) ? "usable" : "unusable";
  }

  #of(organizationId: string, name: string): TemplateVersion[] {
    return this.#versions.filter((one) => isNamed(one, { organizationId, name }));
  }
}

function isNamed(one: { organizationId: string; name: string }, other: { organizationId: string; name: string }): boolean {
  return one.organizationId === other.organizationId && one.name === other.name;
}

function unknown(message = "there is no template of that name"): ApiError {
  return new ApiError("template_not_found", message, { details: { field: "template" } });
}
