/** Forks on the wire: sprites that begin with another's state. Ours, not part of the official API. */
import { z } from "zod";
import { endpoint } from "./endpoint.ts";
import { labels, spriteName, spriteObject } from "./sprites.ts";

export const forkRequest = z
  .strictObject({
    count: z.int().min(1).optional().meta({ description: "How many, 1 when left out; their names are made of the source's" }),
    names: z.array(spriteName).min(1).optional().meta({ description: "Their names, instead of `count`" }),
    memory: z.boolean().optional().meta({ description: "Whether the running processes are copied too" }),
    labels: labels.optional().meta({ description: "The source's when left out" }),
  })
  .optional();
export type ForkRequest = z.input<typeof forkRequest>;

export const forkEndpoints = {
  forkSprite: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/fork",
    kind: "json",
    access: "token",
    tag: "sprites",
    summary: "Make sprites that begin with this one's state; ours, not part of the official API",
    description:
      "All of them or none. The source stands still once, whatever their number, and keeps its identity, sessions and connections. Each fork has an identity of its own. With `memory` its processes go on in each.",
    body: forkRequest,
    status: 201,
    response: z.object({ sprites: z.array(spriteObject) }),
    errors: [
      "sprite_not_found",
      "token_name_prefix",
      "body_invalid",
      "field_unknown",
      "body_too_large",
      "name_invalid",
      "labels_invalid",
      "fork_invalid",
      "sprite_name_taken",
      "sprite_failed",
      "guest_unresponsive",
      "busy",
      "disk_full",
    ],
  }),
};
