/** Calls about the server itself. */
import { z } from "zod";
import { endpoint } from "./endpoint.ts";

export const healthObject = z.object({
  status: z.enum(["ready", "starting", "stopping"]),
  version: z.string(),
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
