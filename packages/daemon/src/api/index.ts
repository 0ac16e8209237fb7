export { toApiError } from "./error-map.ts";
export type { ApiFeatures, ApiTimings } from "./handler.ts";
export { type ApiServer, type ApiServerOptions, ListenError, startApiServer } from "./server.ts";
