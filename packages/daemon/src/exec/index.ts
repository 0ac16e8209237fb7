export type { Attachment, Exec, ExecRequest, ExecSession, OutputChunk, SessionEnd } from "./exec.ts";
export { type ExecSprites, Sessions } from "./sessions.ts";
