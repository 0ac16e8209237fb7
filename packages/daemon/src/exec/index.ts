export type {
  AttachFrom,
  Attachment,
  Exec,
  ExecCommand,
  ExecRequest,
  ExecSession,
  ExecWork,
  LogPiece,
  LogQuery,
  SessionEnd,
  SessionOwner,
} from "./exec.ts";
export { type ExecSprites, Sessions } from "./sessions.ts";
