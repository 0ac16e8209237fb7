export { ConnectionError, type ConnectionErrorCode } from "./errors.ts";
export {
  type ExecConnection,
  type ExecHandlers,
  type ExecTarget,
  execUrl,
  type ExecWhat,
  openExec,
  type SocketOpener,
  type WebSocketLike,
} from "./exec.ts";
export { type LastingConnection, type LastingHandlers, type LastingOptions, openLastingExec } from "./lasting-exec.ts";
export { execHttp, type HttpExecRequest } from "./exec-http.ts";
export { type PortHandlers, type WatchedPort, watchPorts } from "./port-watch.ts";
export { openProxy, type ProxyConnection, type ProxyHandlers } from "./proxy.ts";
export { ApiClient, type CallInput, type CallOptions, type CallOutput, type ClientOptions } from "./http.ts";
