/** Templates on the wire; ours, not part of the official API. Rules: docs/spec/templates.md. */
import { z } from "zod";
import type { ErrorCode } from "../errors.ts";
import { endpoint } from "./endpoint.ts";
import { queryBoolean } from "./query.ts";
import { environment, labels, spriteName } from "./sprites.ts";

const time = z.iso.datetime().meta({ description: "RFC 3339" });

const sprite = spriteName.meta({ description: "The sprite it is made from" });

export const createTemplateRequest = z.strictObject({
  name: spriteName,
  sprite,
  checkpoint: z
    .string()
    .min(1)
    .max(64)
    .optional()
    .meta({ description: "One of the sprite's checkpoints; left out: the sprite as it is now" }),
  memory: z.boolean().optional().meta({ description: "Keep the running processes too" }),
  description: z.string().max(500).optional(),
  environment: environment.optional().meta({ description: "Default environment of sprites made from it" }),
  labels: labels.optional().meta({ description: "Default labels of sprites made from it" }),
});
export type CreateTemplateRequest = z.input<typeof createTemplateRequest>;

export const templateVersionObject = z.object({
  version: z.int(),
  source_sprite: z.string(),
  source_checkpoint: z.string().nullable(),
  memory: z.boolean(),
  memory_state: z.enum(["none", "usable", "unusable"]).meta({ description: "Whether this host can resume it" }),
  description: z.string(),
  config: z.object({ ram_mb: z.int(), cpus: z.int(), storage_gb: z.int() }),
  environment: z.record(z.string(), z.string()),
  labels: z.array(z.string()),
  image: z.string(),
  bytes: z.int().meta({ description: "Allocated on the host's disk; parts shared with others count in full" }),
  created_at: time,
});
export type TemplateVersionObject = z.infer<typeof templateVersionObject>;

export const templateObject = z.object({
  name: z.string(),
  organization: z.string(),
  current_version: z.int(),
  current: templateVersionObject,
  versions: z.array(templateVersionObject).meta({ description: "Newest first" }),
  pools: z.array(z.string()).meta({ description: "Names of the pools that use it" }),
  created_at: time,
  updated_at: time,
});
export type TemplateObject = z.infer<typeof templateObject>;

const OF_TEMPLATE = ["template_not_found"] as const satisfies readonly ErrorCode[];
const OF_BODY = ["body_invalid", "field_unknown", "body_too_large"] as const satisfies readonly ErrorCode[];

export const templateEndpoints = {
  createTemplate: endpoint({
    method: "POST",
    path: "/v1/templates",
    kind: "json",
    access: "token",
    tag: "templates",
    summary: "Make a template, or a new version of one, from a checkpoint or a sprite",
    description: "A new version becomes the current one: pools roll to it, sprites that exist stay as they are.",
    body: createTemplateRequest,
    status: 201,
    response: templateObject,
    errors: [
      ...OF_BODY,
      "name_required",
      "name_invalid",
      "token_name_prefix",
      "sprite_not_found",
      "sprite_failed",
      "checkpoint_not_found",
      "checkpoint_damaged",
      "environment_invalid",
      "labels_invalid",
      "template_memory_missing",
      "vm_failed_to_start",
      "vm_lost",
      "guest_unresponsive",
      "operation_timeout",
      "disk_full",
      "disk_damaged",
      "busy",
    ],
  }),
  listTemplates: endpoint({
    method: "GET",
    path: "/v1/templates",
    kind: "json",
    access: "token",
    tag: "templates",
    summary: "List the organization's templates by name",
    status: 200,
    response: z.object({ templates: z.array(templateObject) }),
    errors: [],
  }),
  getTemplate: endpoint({
    method: "GET",
    path: "/v1/templates/{template}",
    kind: "json",
    access: "token",
    tag: "templates",
    summary: "Get a template with its versions",
    status: 200,
    response: templateObject,
    errors: OF_TEMPLATE,
  }),
  promoteTemplate: endpoint({
    method: "POST",
    path: "/v1/templates/{template}/promote",
    kind: "json",
    access: "token",
    tag: "templates",
    summary: "Make a version the current one",
    body: z.strictObject({ version: z.int().min(1) }),
    status: 200,
    response: templateObject,
    errors: [...OF_TEMPLATE, ...OF_BODY],
  }),
  deleteTemplate: endpoint({
    method: "DELETE",
    path: "/v1/templates/{template}",
    kind: "json",
    access: "token",
    tag: "templates",
    summary: "Delete a template with all its versions",
    description: "Refused while a pool uses it, unless `force=true`: such pools fill no more. Sprites made from it stay.",
    query: z.object({ force: queryBoolean().optional() }),
    status: 204,
    errors: [...OF_TEMPLATE, "template_in_use"],
  }),
};
