/** A template as other features see it. All calls throw `ApiError`. */
import type { CreateSprite, SpriteView } from "../sprite/index.ts";

/** One version of a template; never changed. */
export interface TemplateVersion {
  id: string;
  organizationId: string;
  name: string;
  version: number;
  isCurrent: boolean;
  sourceSprite: string;
  sourceCheckpoint: string;
  description: string;
  config: { cpus: number; memoryMib: number; storageGb: number };
  image: { name: string; digest: string };
  environment: Record<string, string>;
  labels: string[];
  /** Build of the VMM that can resume the memory; undefined without memory. */
  memoryBuild: string | undefined;
  /** Allocated on the disk. */
  bytes: number;
  createdAtMs: number;
}

export interface TemplateView {
  name: string;
  organizationId: string;
  organizationSlug: string;
  current: TemplateVersion;
  /** Newest first. */
  versions: TemplateVersion[];
  pools: string[];
}

export interface CreateTemplate {
  organizationId: string;
  name: string;
  spriteName: string;
  /** Undefined: the sprite as it is now. */
  checkpointId: string | undefined;
  memory: boolean;
  description: string;
  environment: Record<string, string>;
  labels: string[];
}

export interface Templates {
  create(request: CreateTemplate, options?: { signal?: AbortSignal }): Promise<TemplateView>;
  list(organizationId: string): TemplateView[];
  get(organizationId: string, name: string): TemplateView;
  promote(organizationId: string, name: string, version: number): TemplateView;
  /** Throws `template_in_use` unless forced. */
  delete(organizationId: string, name: string, options: { force: boolean }): Promise<void>;
  /** Whether the memory of a version can be resumed here (TPL-10). */
  memoryState(version: TemplateVersion): "none" | "usable" | "unusable";
  /**
   * Makes a sprite from the version that `reference` stands for (TPL-5 to TPL-7). Throws
   * `template_not_found`, `template_size_fixed`, and what the hub throws.
   */
  createSprite(reference: string, request: CreateSprite, options?: { signal?: AbortSignal }): Promise<SpriteView>;
  /** The version that `NAME` or `NAME@VERSION` stands for. Throws `template_not_found`. */
  resolve(organizationId: string, reference: string): TemplateVersion;
}
