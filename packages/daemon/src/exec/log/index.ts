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
