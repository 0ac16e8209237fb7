export { type ControlAnswer, decodeControlData, decodeControlRequest, encodeControlAnswer } from "./control-messages.ts";
export {
  type ClientMessage,
  CloseCode,
  closeCodeAfterExit,
  decodeClientMessage,
  decodeServerMessage,
  encodeExit,
  encodeFrame,
  encodeInputEnd,
  exitByte,
  type ServerMessage,
  type ServerText,
  type SessionInfo,
  sessionInfoOf,
  signalName,
  StreamId,
} from "./exec-messages.ts";
export { HTTP_EXEC_FRAME_BYTES_MAX, HTTP_EXEC_FRAME_SPACING_MS, HTTP_EXEC_GATHER_BYTES_MAX, OutputGatherer } from "./http-exec.ts";
export {
  encodeHttpExecFrame,
  HTTP_EXEC_CONTENT_TYPE,
  HTTP_EXEC_OUTPUT_BYTES_MAX,
  HttpExecDecoder,
  type HttpExecFrame,
  HttpExecFrameError,
} from "./http-exec-frames.ts";
export { encodePortEvent, encodePortList, type PortEvent, portEventOf } from "./port-messages.ts";
export {
  decodeProxyAnswer,
  decodeProxyRequest,
  decodeProxyText,
  type ProxyAnswer,
  type ProxyRequest,
  type ProxyText,
} from "./proxy-messages.ts";
export { encodeNdjsonLine, NDJSON_LINE_BYTES_MAX, NdjsonDecoder, NdjsonError } from "./ndjson.ts";
