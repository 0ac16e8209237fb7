/** Pools on the wire; ours, not part of the official API. Rules: docs/spec/pools.md. */
import { z } from "zod";
import type { ErrorCode } from "../errors.ts";
import { endpoint } from "./endpoint.ts";
import { environment, labels, spriteName, spriteObject } from "./sprites.ts";

const time = z.iso.datetime().meta({ description: "RFC 3339" });

/** Spares a pool may have. */
const SPARES_MAX = 1000;

const settings = {
  min: z.int().min(0).max(SPARES_MAX).meta({ description: "Spares kept ready" }),
  max: z.int().min(1).max(SPARES_MAX).meta({ description: "Most spares at once, ready and filling" }),
  spare: z.enum(["hibernated", "paused"]).meta({ description: "State in which spares wait" }),
  setup: z.array(z.string()).min(1).max(256).nullable().meta({ description: "Command run in each spare before it counts as ready" }),
  setup_timeout_seconds: z.int().min(1).max(86_400),
  max_age_seconds: z.int().min(60).nullable().meta({ description: "Ready spares older than this are replaced" }),
  refill_per_minute: z.int().min(1).max(10_000),
};

export const createPoolRequest = z.strictObject({
  name: spriteName,
  template: spriteName.meta({ description: "Name of a template; its current version is used" }),
  min: settings.min.optional(),
  max: settings.max.optional(),
  spare: settings.spare.optional(),
  setup: settings.setup.optional(),
  setup_timeout_seconds: settings.setup_timeout_seconds.optional(),
  max_age_seconds: settings.max_age_seconds.optional(),
  refill_per_minute: settings.refill_per_minute.optional(),
});
export type CreatePoolRequest = z.input<typeof createPoolRequest>;

export const updatePoolRequest = createPoolRequest.omit({ name: true }).partial();
export type UpdatePoolRequest = z.input<typeof updatePoolRequest>;

const milliseconds = z.number().nullable();
const seconds = z.number().nullable();

const poolMetrics = z
  .object({
    claims_served: z.int(),
    claims_empty: z.int().meta({ description: "Claims that found nothing ready when they came" }),
    claims_refused: z.int().meta({ description: "Claims that got no sprite" }),
    claims_waiting: z.int(),
    claim_ms: z.object({ p50: milliseconds, p99: milliseconds }).meta({ description: "Of the last 256 claims served by this daemon" }),
    fills: z.int(),
    fills_failed: z.int(),
    fill_seconds: z.object({ p50: seconds, last: seconds }).meta({ description: "Of the last 64 spares that this daemon filled" }),
    last_failure: z
      .object({ code: z.string(), at: time })
      .nullable()
      .meta({ description: "Of this daemon: `setup_failed`, `timed_out`, or an error code" }),
    spares_aged: z.int().meta({ description: "Ready spares discarded for their age" }),
    spares_rolled: z.int().meta({ description: "Ready spares discarded for another version" }),
  })
  .meta({ description: "Counts are since the pool was made" });

export const poolObject = z.object({
  name: z.string(),
  organization: z.string(),
  template: z.string(),
  template_version: z.int().nullable().meta({ description: "Version that is filled with now; null when the template was deleted" }),
  ...settings,
  aim: z.int().meta({ description: "Ready spares aimed at now" }),
  ready: z.int(),
  filling: z.int(),
  claimed: z.int().meta({ description: "Claims since the pool was made" }),
  outdated: z.int().meta({ description: "Ready spares of another version" }),
  waiting: z.int().meta({ description: "Claims that wait for a spare" }),
  fill_seconds: z.number().nullable().meta({ description: "How long the last fillings took, mean" }),
  last_error: z.object({ message: z.string(), at: time, failures: z.int() }).nullable(),
  metrics: poolMetrics,
  created_at: time,
  updated_at: time,
});
export type PoolObject = z.infer<typeof poolObject>;

export const claimRequest = z.strictObject({
  name: spriteName.optional().meta({ description: "Name of the sprite; made from the pool's when left out" }),
  labels: labels.optional(),
  environment: environment.optional(),
  idempotency_key: z.string().min(1).max(128).optional(),
  wait_for_capacity: z.boolean().optional().meta({ description: "Wait in line, at most 60 s, when nothing is ready" }),
});
export type ClaimRequest = z.input<typeof claimRequest>;

const OF_POOL = ["pool_not_found"] as const satisfies readonly ErrorCode[];
const OF_BODY = ["body_invalid", "field_unknown", "body_too_large"] as const satisfies readonly ErrorCode[];

export const poolEndpoints = {
  createPool: endpoint({
    method: "POST",
    path: "/v1/pools",
    kind: "json",
    access: "token",
    tag: "pools",
    summary: "Make a pool of ready sprites from a template",
    body: createPoolRequest,
    status: 201,
    response: poolObject,
    errors: [...OF_BODY, "name_required", "name_invalid", "pool_name_taken", "template_not_found"],
  }),
  listPools: endpoint({
    method: "GET",
    path: "/v1/pools",
    kind: "json",
    access: "token",
    tag: "pools",
    summary: "List the organization's pools by name",
    status: 200,
    response: z.object({ pools: z.array(poolObject) }),
    errors: [],
  }),
  getPool: endpoint({
    method: "GET",
    path: "/v1/pools/{pool}",
    kind: "json",
    access: "token",
    tag: "pools",
    summary: "Get a pool with what it holds",
    status: 200,
    response: poolObject,
    errors: OF_POOL,
  }),
  updatePool: endpoint({
    method: "PUT",
    path: "/v1/pools/{pool}",
    kind: "json",
    access: "token",
    tag: "pools",
    summary: "Change a pool's settings",
    description: "Fields that are left out stay as they are. Another template rolls the pool.",
    body: updatePoolRequest,
    status: 200,
    response: poolObject,
    errors: [...OF_POOL, ...OF_BODY, "template_not_found", "name_invalid"],
  }),
  deletePool: endpoint({
    method: "DELETE",
    path: "/v1/pools/{pool}",
    kind: "json",
    access: "token",
    tag: "pools",
    summary: "Delete a pool and its spares; claimed sprites stay",
    status: 204,
    errors: OF_POOL,
  }),
  claimSprite: endpoint({
    method: "POST",
    path: "/v1/pools/{pool}/claim",
    kind: "json",
    access: "token",
    tag: "pools",
    summary: "Take a ready sprite out of a pool, for good",
    description: "Answers at once. The sprite wakes with its first use.",
    body: claimRequest.optional(),
    status: 201,
    response: spriteObject,
    errors: [
      ...OF_POOL,
      ...OF_BODY,
      "pool_empty",
      "name_invalid",
      "sprite_name_taken",
      "token_name_prefix",
      "labels_invalid",
      "environment_invalid",
      "idempotency_key_reused",
      "busy",
    ],
  }),
};
