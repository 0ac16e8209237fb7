/** Calls about the server itself. */
import { z } from "zod";
import { endpoint } from "./endpoint.ts";

export const healthObject = z.object({
  status: z.enum(["ready", "starting", "stopping"]),
  version: z.string(),
});

export const garbageItem = z.object({
  path: z.string().meta({ description: "Below the server's home" }),
  reason: z.string(),
  bytes: z.int().meta({ description: "Blocks it takes; those shared with others are not freed with it" }),
});

export const systemEndpoints = {
  health: endpoint({
    method: "GET",
    path: "/healthz",
    kind: "json",
    access: "anyone",
    tag: "system",
    summary: "200 when the server is ready",
    status: 200,
    response: healthObject,
    errors: ["not_ready"],
  }),
  collectGarbage: endpoint({
    method: "POST",
    path: "/v1/gc",
    kind: "json",
    access: "admin",
    tag: "system",
    summary: "Remove files that nothing refers to, or only name them",
    description: "What was changed within the last hour is left alone: work under way makes its files before its record.",
    body: z.strictObject({ dry_run: z.boolean().optional() }).optional(),
    status: 200,
    response: z.object({ removed: z.boolean(), items: z.array(garbageItem), bytes: z.int() }),
    errors: ["body_invalid", "field_unknown", "body_too_large"],
  }),
  readMetrics: endpoint({
    method: "GET",
    path: "/metrics",
    kind: "stream",
    access: "admin",
    tag: "system",
    summary: "Numbers about this server in Prometheus' text format",
    status: 200,
    stream: { contentType: "text/plain; version=0.0.4; charset=utf-8" },
    errors: [],
  }),
  openapi: endpoint({
    method: "GET",
    path: "/openapi.json",
    kind: "json",
    access: "anyone",
    tag: "system",
    summary: "This document",
    status: 200,
    response: z.record(z.string(), z.unknown()),
    errors: [],
  }),
};
