export { ConnectionLog } from "./connection-log.ts";
export { FileLog, type FileLogOptions } from "./file-log.ts";
export { MEMORY_LOG_BYTES_MAX, MemoryLog } from "./memory-log.ts";
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
