export { type ApiServer, type ApiServerOptions, ListenError, startApiServer } from "./server.ts";
