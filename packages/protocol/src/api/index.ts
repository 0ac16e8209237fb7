export {
  type CheckpointDiffLine,
  checkpointDiffLine,
  type CheckpointLine,
  checkpointLine,
  type CheckpointObject,
  checkpointObject,
} from "./checkpoints.ts";
export { type Access, COMMON_ERRORS, type Endpoint, type Method, type PathParams } from "./endpoint.ts";
export { type EndpointName, type EndpointNameOf, type Endpoints, ENDPOINTS, NOT_AVAILABLE_YET } from "./endpoints.ts";
export { type KillLine, killLine, type SessionDetails, type SessionObject, sessionObject } from "./exec.ts";
export { type JobObject, jobObject, type JobState, jobState, type StartJobRequest } from "./jobs.ts";
export { type FileObject, fileObject, watchSubscribe } from "./files.ts";
export { API_LIMITS } from "./limits.ts";
export { commandProblem, environmentProblem, labelsProblem, organizationSlugProblem, spriteNameProblem } from "./names.ts";
export { openApiDocument } from "./openapi.ts";
export { type CreateOrganizationRequest, type OrganizationObject, organizationObject } from "./organizations.ts";
export { durationMs, queryFromUrl } from "./query.ts";
export { queryToText } from "./query-text.ts";
export { fillPath, matchRoute, type Route } from "./route.ts";
export {
  type CreateSpriteRequest,
  type OrganizationCounters,
  spriteList,
  type SpriteList,
  spriteObject,
  type SpriteObject,
  spriteWatchLine,
  type SpriteWatchLine,
  type UpdateSpriteRequest,
} from "./sprites.ts";
export { type CreateTokenRequest, type TokenObject, tokenObject } from "./tokens.ts";
export { validateBody, validateQuery } from "./validate.ts";
