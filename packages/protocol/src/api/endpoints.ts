/**
 * The table of all endpoints, and what of the official API is not offered yet. Adding a row here
 * makes the daemon fail to compile until it has a handler (docs/howto/add-an-endpoint.md).
 */
import { archiveEndpoints } from "./archives.ts";
import { checkpointEndpoints } from "./checkpoints.ts";
import { execEndpoints } from "./exec.ts";
import { fileEndpoints } from "./files.ts";
import { forkEndpoints } from "./forks.ts";
import { jobEndpoints } from "./jobs.ts";
import { organizationEndpoints } from "./organizations.ts";
import { poolEndpoints } from "./pools.ts";
import { portEndpoints } from "./ports.ts";
import { spriteEndpoints } from "./sprites.ts";
import { systemEndpoints } from "./system.ts";
import { templateEndpoints } from "./templates.ts";
import { tokenEndpoints } from "./tokens.ts";

export const ENDPOINTS = {
  ...systemEndpoints,
  ...spriteEndpoints,
  ...checkpointEndpoints,
  ...forkEndpoints,
  ...archiveEndpoints,
  ...templateEndpoints,
  ...poolEndpoints,
  ...execEndpoints,
  ...jobEndpoints,
  ...portEndpoints,
  ...fileEndpoints,
  ...organizationEndpoints,
  ...tokenEndpoints,
};

export type Endpoints = typeof ENDPOINTS;
export type EndpointName = keyof Endpoints;

/** Names of endpoints of a kind. */
export type EndpointNameOf<Kind extends "json" | "stream" | "websocket"> = {
  [Name in EndpointName]: Endpoints[Name]["kind"] extends Kind ? Name : never;
}[EndpointName];

/**
 * Official paths that are answered 501 `not_available_yet` with the name of what is missing, so
 * that a client's user learns more than "not found". `/control` is not here: clients need a 404
 * with an empty body to fall back to direct calls.
 */
export const NOT_AVAILABLE_YET: readonly { prefix: string; what: string }[] = [
  { prefix: "services", what: "services" },
  { prefix: "policy", what: "policies" },
];
