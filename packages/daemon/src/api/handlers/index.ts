import type { HandlerTable } from "../handler.ts";
import { archiveHandlers } from "./archives.ts";
import { checkpointFileHandlers } from "./checkpoint-files.ts";
import { checkpointHandlers } from "./checkpoints.ts";
import { execHttpHandlers } from "./exec-http.ts";
import { forkHandlers } from "./forks.ts";
import { jobHandlers } from "./jobs.ts";
import { fileHandlers } from "./files.ts";
import { organizationHandlers } from "./organizations.ts";
import { poolHandlers } from "./pools.ts";
import { sessionHandlers } from "./sessions.ts";
import { spriteHandlers } from "./sprites.ts";
import { systemHandlers } from "./system.ts";
import { templateHandlers } from "./templates.ts";

/** Every endpoint that is not a WebSocket with its handler. */
export const HANDLERS: HandlerTable = {
  ...systemHandlers,
  ...fileHandlers,
  ...spriteHandlers,
  ...checkpointHandlers,
  ...checkpointFileHandlers,
  ...forkHandlers,
  ...archiveHandlers,
  ...templateHandlers,
  ...poolHandlers,
  ...organizationHandlers,
  ...sessionHandlers,
  ...jobHandlers,
  ...execHttpHandlers,
};
