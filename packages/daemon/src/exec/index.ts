export { guestRefused } from "./begin.ts";
export type {
  AttachFrom,
  Attachment,
  Exec,
  ExecCommand,
  ExecRequest,
  ExecSession,
  ExecWork,
  KeptLog,
  LogPiece,
  LogQuery,
  SessionEnd,
  SessionOwner,
} from "./exec.ts";
export type { RetentionLimits } from "./retention.ts";
export { type ExecSprites, type ExecSettings, Sessions } from "./sessions.ts";
