/** Sprites on the wire: objects, lists and the calls on them. */
import { z } from "zod";
import type { ErrorCode } from "../errors.ts";
import { endpoint } from "./endpoint.ts";
import { OF_MACHINE, OF_SPRITE } from "./machine-errors.ts";
import { environmentProblem, labelsProblem, spriteNameProblem } from "./names.ts";
import { queryBoolean, queryInteger } from "./query.ts";

/** A check of `names.ts` as a schema rule with its own error code. */
function rule<T>(problem: (value: T) => string | undefined, error: ErrorCode) {
  return (value: T, context: z.RefinementCtx): void => {
    const message = problem(value);
    if (message !== undefined) context.addIssue({ code: "custom", message, params: { error } });
  };
}

export const spriteStatus = z.enum(["cold", "warm", "running"]);

const time = z.iso.datetime().meta({ description: "RFC 3339" });

export const spriteName = z.string().superRefine(rule(spriteNameProblem, "name_invalid")).meta({
  description: "1 to 63 lower-case letters, digits and hyphens; begins and ends with a letter or digit",
  pattern: "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
});

export const labels = z.array(z.string()).superRefine(rule(labelsProblem, "labels_invalid"));
export const environment = z.record(z.string(), z.string()).superRefine(rule(environmentProblem, "environment_invalid"));

const idleSeconds = z
  .int()
  .min(0)
  .max(31_536_000)
  .meta({ description: "Time without activity until the sprite sleeps, s; 0: never by itself. Ours, not part of the official API" });

const urlSettingsRequest = z.strictObject({
  auth: z.enum(["sprite", "public"]).optional(),
  private_access: z.enum(["admins", "org_users", "organization"]).optional(),
});

export const createSpriteRequest = z.strictObject({
  name: spriteName,
  config: z
    .strictObject({
      ram_mb: z.int().min(1).optional(),
      cpus: z.int().min(1).optional(),
      storage_gb: z.int().min(1).optional(),
      region: z.string().max(64).optional().meta({ description: "Accepted and ignored: there is one host" }),
      idle_seconds: idleSeconds.optional(),
    })
    .optional(),
  environment: environment.optional(),
  labels: labels.optional(),
  url_settings: urlSettingsRequest.optional(),
  wait_for_capacity: z.boolean().optional().meta({ description: "Accepted and ignored" }),
  runtime: z.enum(["default", "dev"]).optional().meta({ description: "Accepted and ignored" }),
  image: z.string().min(1).max(128).optional().meta({ description: "Base image; ours, not part of the official API" }),
  template: z
    .string()
    .min(1)
    .max(80)
    .optional()
    .meta({ description: "Template to begin as, `NAME` or `NAME@VERSION`; ours, not part of the official API" }),
});
export type CreateSpriteRequest = z.input<typeof createSpriteRequest>;

export const updateSpriteRequest = z.strictObject({
  config: z
    .strictObject({ idle_seconds: idleSeconds.nullable().optional().meta({ description: "Null: the server's default again" }) })
    .optional(),
  url_settings: urlSettingsRequest.optional(),
  labels: labels.optional(),
  clear_labels: z.boolean().optional(),
});
export type UpdateSpriteRequest = z.input<typeof updateSpriteRequest>;

export const spriteObject = z.object({
  id: z.string(),
  name: z.string(),
  organization: z.string().meta({ description: "Slug" }),
  org_slug: z.string(),
  status: spriteStatus,
  config: z.object({
    ram_mb: z.int(),
    cpus: z.int(),
    storage_gb: z.int(),
    idle_seconds: z.int().optional().meta({ description: "Left out while the server's default holds" }),
  }),
  environment: z.record(z.string(), z.string()),
  labels: z.array(z.string()),
  url: z.string(),
  url_settings: z.object({ auth: z.string(), private_access: z.string().optional() }),
  image: z.string().meta({ description: "Base image the disk began as" }),
  environment_version: z.string().meta({ description: "Digest of the base image" }),
  version: z.string().meta({ description: "Version of the server" }),
  created_at: time,
  updated_at: time,
  last_running_at: time.nullable(),
  last_warming_at: time.nullable(),
  memory_lost: z.string().optional().meta({
    description: "Why the processes of a cold sprite could not be kept; left out when that was asked for",
  }),
  failure: z.string().optional().meta({ description: "Why the sprite cannot be used; left out while it can" }),
});
export type SpriteObject = z.infer<typeof spriteObject>;

/** Entry of a list asked for with `bulk_load`: enough for a table, nothing that grows. */
export const spriteListEntry = spriteObject.pick({
  id: true,
  name: true,
  organization: true,
  org_slug: true,
  status: true,
  url: true,
  labels: true,
  created_at: true,
  updated_at: true,
});

const counters = {
  running: z.int(),
  warm: z.int(),
  cold: z.int(),
  running_limit: z.int().meta({ description: "0: no limit" }),
  warm_limit: z.int().meta({ description: "0: no limit" }),
};

export const organizationCounters = z.object({ name: z.string(), ...counters });
export type OrganizationCounters = z.infer<typeof organizationCounters>;

export const spriteList = z.object({
  sprites: z.array(spriteListEntry.extend(spriteObject.omit(keysOf(spriteListEntry)).partial().shape)),
  has_more: z.boolean(),
  next_continuation_token: z.string().nullable(),
  name: z.string().meta({ description: "Slug of the organization" }),
  ...counters,
  org: organizationCounters,
});
export type SpriteList = z.infer<typeof spriteList>;

/** Line of the live list. */
export const spriteWatchLine = z.object({
  type: z.enum(["sprite", "deleted", "heartbeat"]),
  name: z.string().optional(),
  status: spriteStatus.optional(),
  running_version: z.string().optional(),
  last_running_at: time.nullable().optional(),
  last_warming_at: time.nullable().optional(),
  timestamp: time,
  org: organizationCounters,
});
export type SpriteWatchLine = z.infer<typeof spriteWatchLine>;

function keysOf<S extends z.ZodRawShape>(object: z.ZodObject<S>): { [K in keyof S]: true } {
  return Object.fromEntries(Object.keys(object.shape).map((key) => [key, true])) as { [K in keyof S]: true };
}

const OF_BODY = ["body_invalid", "field_unknown", "body_too_large"] as const satisfies readonly ErrorCode[];

export const spriteEndpoints = {
  createSprite: endpoint({
    method: "POST",
    path: "/v1/sprites",
    kind: "json",
    access: "token",
    tag: "sprites",
    summary: "Create a sprite",
    description:
      "Answers when the sprite's disk exists. Its first use starts it. With a label `pool:NAME` it is taken out of that pool, which may take a minute when none is ready.",
    body: createSpriteRequest,
    status: 201,
    response: spriteObject,
    errors: [
      ...OF_BODY,
      "name_required",
      "name_invalid",
      "sprite_name_taken",
      "token_name_prefix",
      "labels_invalid",
      "environment_invalid",
      "size_beyond_host",
      "storage_size",
      "image_unknown",
      "image_damaged",
      "template_not_found",
      "template_size_fixed",
      "pool_not_found",
      "pool_empty",
      "sprite_limit_exceeded",
      "disk_limit_exceeded",
      "disk_full",
      "busy",
    ],
  }),
  listSprites: endpoint({
    method: "GET",
    path: "/v1/sprites",
    kind: "json",
    access: "token",
    tag: "sprites",
    summary: "List the organization's sprites by name",
    description: "With `Accept: application/x-ndjson` the answer is a stream without end: every sprite once, then each change.",
    query: z.object({
      max_results: queryInteger({ min: -(10 ** 9), max: 10 ** 9 }).optional(),
      continuation_token: z.string().max(512).optional(),
      prefix: z.string().max(256).optional(),
      bulk_load: queryBoolean().optional(),
    }),
    status: 200,
    response: spriteList,
    stream: { contentType: "application/x-ndjson", line: spriteWatchLine },
    errors: [],
  }),
  getSprite: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}",
    kind: "json",
    access: "token",
    tag: "sprites",
    summary: "Get one sprite",
    status: 200,
    response: spriteObject,
    errors: OF_SPRITE,
  }),
  updateSprite: endpoint({
    method: "PUT",
    path: "/v1/sprites/{name}",
    kind: "json",
    access: "token",
    tag: "sprites",
    summary: "Change labels, URL settings or the idle time",
    description: "Fields that are left out stay as they are.",
    body: updateSpriteRequest,
    status: 200,
    response: spriteObject,
    errors: [...OF_SPRITE, ...OF_BODY, "labels_invalid", "sprite_deleting", "busy"],
  }),
  deleteSprite: endpoint({
    method: "DELETE",
    path: "/v1/sprites/{name}",
    kind: "json",
    access: "token",
    tag: "sprites",
    summary: "Destroy a sprite with everything it holds",
    status: 204,
    errors: [...OF_SPRITE, "sprite_deleting", "operation_timeout", "busy"],
  }),
  restartSprite: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/restart",
    kind: "json",
    access: "token",
    tag: "sprites",
    summary: "Stop the sprite's machine and start it again",
    status: 200,
    response: z.object({ sprite_name: z.string(), machine_id: z.string(), message: z.string() }),
    errors: OF_MACHINE,
  }),
  checkSprite: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/check",
    kind: "json",
    access: "token",
    tag: "sprites",
    summary: "Ask a running sprite whether it is well; never wakes one",
    status: 200,
    response: z.object({
      sprite_name: z.string(),
      sprite_id: z.string(),
      status: z.enum(["healthy", "hibernated", "unhealthy", "error"]),
      reason: z.string().nullable(),
      checked_at: time,
      elapsed: z.number().meta({ description: "ms" }),
    }),
    errors: OF_SPRITE,
  }),
  upgradeSprite: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/upgrade",
    kind: "json",
    access: "token",
    tag: "sprites",
    summary: "Accepted for compatibility; a sprite takes up the newest runtime whenever it starts",
    body: z.strictObject({ version: z.string().optional(), allow_storage_migration: z.boolean().optional() }).optional(),
    status: 200,
    response: z.object({ name: z.string(), status: z.string(), message: z.string() }),
    errors: [...OF_SPRITE, ...OF_BODY],
  }),
  sleepSprite: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/sleep",
    kind: "json",
    access: "token",
    tag: "sprites",
    summary: "Put the sprite to sleep now; ours, not part of the official API",
    description:
      "Its memory goes into a file, its processes go on when it wakes; any request wakes it. `cold: true` shuts its Linux down instead and keeps the disk alone.",
    body: z.strictObject({ cold: z.boolean().optional() }).optional(),
    status: 200,
    response: spriteObject,
    errors: [...OF_BODY, ...OF_MACHINE],
  }),
  wakeSprite: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/wake",
    kind: "json",
    access: "token",
    tag: "sprites",
    summary: "Wake the sprite and answer when commands can run; ours, not part of the official API",
    status: 200,
    response: spriteObject,
    errors: OF_MACHINE,
  }),
};
