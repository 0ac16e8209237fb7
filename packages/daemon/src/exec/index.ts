export type { Attachment, Exec, ExecRequest, ExecSession, OutputChunk, SessionEnd } from "./exec.ts";
export { type ExecSprites, RUN_AFTER_DISCONNECT_MS, Sessions } from "./sessions.ts";
