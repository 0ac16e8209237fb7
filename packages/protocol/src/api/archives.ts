/** Sprites as one file on the wire. Ours, not part of the official API. */
import { z } from "zod";
import { endpoint } from "./endpoint.ts";
import { spriteObject } from "./sprites.ts";

export const archiveEndpoints = {
  exportSprite: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/export",
    kind: "stream",
    access: "token",
    tag: "sprites",
    summary: "The sprite as one file, for another host; ours, not part of the official API",
    description:
      "Disk and settings, as they are now or as a checkpoint has them. The sprite is not woken. A stream that was cut off is refused when it is imported.",
    query: z.object({ checkpoint: z.string().min(1).max(64).optional() }),
    status: 200,
    stream: { contentType: "application/zstd" },
    errors: ["sprite_not_found", "token_name_prefix", "checkpoint_not_found", "guest_unresponsive", "busy", "disk_full", "disk_damaged"],
  }),
  importSprite: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/import",
    kind: "json",
    access: "token",
    tag: "sprites",
    summary: "Make a sprite of an exported file; ours, not part of the official API",
    description: "All of it is checked before the sprite exists.",
    rawBody: "application/zstd",
    status: 201,
    response: spriteObject,
    errors: [
      "token_name_prefix",
      "name_invalid",
      "sprite_name_taken",
      "archive_invalid",
      "size_beyond_host",
      "storage_size",
      "busy",
      "disk_full",
    ],
  }),
};
