export { ConnectionLog } from "./connection-log.ts";
export { FileLog, type FileLogOptions } from "./file-log.ts";
export { queryLog } from "./log-query.ts";
export { reclaimLogs } from "./reclaim-logs.ts";
export {
  type LogReader,
  OffsetError,
  type Offsets,
  type OutputChunk,
  positionOf,
  type ReadableLog,
  type ReadOptions,
  type SessionLog,
  type StreamName,
} from "./session-log.ts";
export { StoredLog } from "./stored-log.ts";
