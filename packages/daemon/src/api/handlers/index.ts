import type { HandlerTable } from "../handler.ts";
import { checkpointHandlers } from "./checkpoints.ts";
import { execHttp } from "./exec-http.ts";
import { forkHandlers } from "./forks.ts";
import { jobHandlers } from "./jobs.ts";
import { fileHandlers } from "./files.ts";
import { organizationHandlers } from "./organizations.ts";
import { sessionHandlers } from "./sessions.ts";
import { spriteHandlers } from "./sprites.ts";
import { systemHandlers } from "./system.ts";

/** Every endpoint that is not a WebSocket with its handler. */
export const HANDLERS: HandlerTable = {
  ...systemHandlers,
  ...fileHandlers,
  ...spriteHandlers,
  ...checkpointHandlers,
  ...forkHandlers,
  ...organizationHandlers,
  ...sessionHandlers,
  ...jobHandlers,
  execHttp,
};
