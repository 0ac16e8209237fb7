/** Handlers of templates. */
import { requireSpriteName } from "../../organization/index.ts";
import type { TemplatesFeature, TemplateVersion, TemplateView } from "../../template/index.ts";
import type { HandlerTable } from "../handler.ts";
import { timeView } from "../view.ts";

type TemplateHandlers = Pick<HandlerTable, "createTemplate" | "listTemplates" | "getTemplate" | "promoteTemplate" | "deleteTemplate">;

export const templateHandlers: TemplateHandlers = {
  async createTemplate({ body, caller, context, signal }) {
    requireSpriteName(caller, body.sprite);
    const { templates } = context.features;
    const view = await templates.create(
      {
        organizationId: caller.organizationId,
        name: body.name,
        spriteName: body.sprite,
        checkpointId: body.checkpoint,
        memory: body.memory ?? false,
        description: body.description ?? "",
        environment: body.environment ?? {},
        labels: [...new Set(body.labels ?? [])],
      },
      { signal },
    );
    return templateView(templates, view);
  },

  listTemplates({ caller, context }) {
    const { templates } = context.features;
    return { templates: templates.list(caller.organizationId).map((view) => templateView(templates, view)) };
  },

  getTemplate({ params, caller, context }) {
    const { templates } = context.features;
    return templateView(templates, templates.get(caller.organizationId, params.template));
  },

  promoteTemplate({ params, body, caller, context }) {
    const { templates } = context.features;
    return templateView(templates, templates.promote(caller.organizationId, params.template, body.version));
  },

  async deleteTemplate({ params, query, caller, context }) {
    await context.features.templates.delete(caller.organizationId, params.template, { force: query.force ?? false });
    return undefined;
  },
};

function templateView(templates: TemplatesFeature, view: TemplateView) {
  return {
    name: view.name,
    organization: view.organizationSlug,
    current_version: view.current.version,
    current: versionView(templates, view.current),
    versions: view.versions.map((version) => versionView(templates, version)),
    pools: view.pools,
    created_at: timeView(Math.min(...view.versions.map(({ createdAtMs }) => createdAtMs))),
    updated_at: timeView(Math.max(...view.versions.map(({ createdAtMs }) => createdAtMs))),
  };
}

function versionView(templates: TemplatesFeature, version: TemplateVersion) {
  return {
    version: version.version,
    source_sprite: version.sourceSprite,
    source_checkpoint: version.sourceCheckpoint,
    memory: version.memoryBuild !== undefined,
    memory_state: templates.memoryState(version),
    description: version.description,
    config: { ram_mb: version.config.memoryMib, cpus: version.config.cpus, storage_gb: version.config.storageGb },
    environment: version.environment,
    labels: version.labels,
    image: version.image.name,
    bytes: version.bytes,
    created_at: timeView(version.createdAtMs),
  };
}
