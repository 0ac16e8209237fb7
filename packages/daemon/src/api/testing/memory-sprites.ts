/** Sprites in memory without machines, for tests of the API: the behaviour that the interface promises. */
import { ApiError } from "@sprited/protocol/errors";
import { v7 as uuidv7 } from "uuid";
import type {
  CreateSprite,
  SpriteCheck,
  SpritePage,
  Sprites,
  SpriteStatus,
  SpriteView,
  StatusCounts,
  UpdateSprite,
} from "../../sprite/sprite.ts";

type Listener = (view: SpriteView, change: "changed" | "deleted") => void;

export class MemorySprites implements Sprites {
  readonly #slugOf: (organizationId: string) => string;
  readonly #sprites = new Map<string, SpriteView>();
  readonly #listeners = new Set<Listener>();
  /** Thrown by the next call that starts or makes something. */
  nextError: Error | undefined;

  constructor(slugOf: (organizationId: string) => string) {
    this.#slugOf = slugOf;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  async create(request: CreateSprite): Promise<SpriteView> {
    this.#throwNext();
    const key = `${request.organizationId}/${request.name}`;
    if (this.#sprites.has(key)) throw new ApiError("sprite_name_taken", `the name ${request.name} is taken`);
    if ((request.config.memoryMib ?? 0) > 8192)
      throw new ApiError("size_beyond_host", "this host gives a sprite at most 8192 MB of memory");
    const nowMs = Date.now();
    const view: SpriteView = {
      id: uuidv7(),
      organizationId: request.organizationId,
      organizationSlug: this.#slugOf(request.organizationId),
      name: request.name,
      config: { cpus: 2, memoryMib: 2048, storageGb: 100, ...request.config },
      environment: request.environment,
      labels: request.labels,
      urlSettings: { auth: request.urlSettings.auth ?? "sprite", privateAccess: request.urlSettings.privateAccess },
      imageName: request.imageName ?? "default",
      imageDigest: "sha256:0",
      createdAtMs: nowMs,
      updatedAtMs: nowMs,
      lastRunningAtMs: undefined,
      status: "cold",
      failure: undefined,
    };
    this.#sprites.set(key, view);
    this.#announce(view, "changed");
    return view;
  }

  get(organizationId: string, name: string): SpriteView {
    const view = this.#sprites.get(`${organizationId}/${name}`);
    if (!view) throw new ApiError("sprite_not_found", `there is no sprite named ${name}`);
    return view;
  }

  list(
    organizationId: string,
    query: { prefix?: string | undefined; continuationToken?: string | undefined; maxResults: number },
  ): SpritePage {
    const all = [...this.#sprites.values()]
      .filter((view) => view.organizationId === organizationId && view.name.startsWith(query.prefix ?? ""))
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .filter((view) => query.continuationToken === undefined || view.name > query.continuationToken);
    const sprites = all.slice(0, query.maxResults);
    return { sprites, continuationToken: all.length > sprites.length ? sprites.at(-1)?.name : undefined };
  }

  counts(organizationId: string): StatusCounts {
    const counts: StatusCounts = { running: 0, warm: 0, cold: 0 };
    for (const view of this.#sprites.values()) if (view.organizationId === organizationId) counts[view.status] += 1;
    return counts;
  }

  async update(organizationId: string, name: string, change: UpdateSprite): Promise<SpriteView> {
    const view = this.get(organizationId, name);
    return this.#replace({
      ...view,
      labels: change.labels ?? view.labels,
      urlSettings: { ...view.urlSettings, ...change.urlSettings },
      updatedAtMs: Date.now(),
    });
  }

  async delete(organizationId: string, name: string): Promise<void> {
    const view = this.get(organizationId, name);
    this.#sprites.delete(`${organizationId}/${name}`);
    this.#announce(view, "deleted");
  }

  async stop(organizationId: string, name: string): Promise<SpriteView> {
    return this.#setStatus(organizationId, name, "cold");
  }

  async sleep(organizationId: string, name: string): Promise<SpriteView> {
    return await this.stop(organizationId, name);
  }

  async wake(organizationId: string, name: string): Promise<SpriteView> {
    this.#throwNext();
    return this.#setStatus(organizationId, name, "running");
  }

  async restart(organizationId: string, name: string): Promise<{ incarnation: string }> {
    this.#throwNext();
    this.#setStatus(organizationId, name, "running");
    return { incarnation: uuidv7() };
  }

  async check(organizationId: string, name: string): Promise<SpriteCheck> {
    const { status } = this.get(organizationId, name);
    return { status: status === "running" ? "healthy" : "hibernated", reason: undefined, elapsedMs: 1.5 };
  }

  subscribe(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #throwNext(): void {
    const error = this.nextError;
    this.nextError = undefined;
    if (error) throw error;
  }

  #setStatus(organizationId: string, name: string, status: SpriteStatus): SpriteView {
    const view = this.get(organizationId, name);
    return this.#replace({ ...view, status, lastRunningAtMs: status === "running" ? Date.now() : view.lastRunningAtMs });
  }

  #replace(view: SpriteView): SpriteView {
    this.#sprites.set(`${view.organizationId}/${view.name}`, view);
    this.#announce(view, "changed");
    return view;
  }

  #announce(view: SpriteView, change: "changed" | "deleted"): void {
    for (const listener of this.#listeners) listener(view, change);
  }
}
