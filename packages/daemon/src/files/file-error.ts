/** From what a guest's file system answers to public errors. The POSIX name stays: clients branch on it. */
import { ApiError, type ErrorCode } from "@sprited/protocol/errors";
import { GuestFileError } from "../guest/index.ts";

const BY_POSIX: Readonly<Record<string, ErrorCode>> = {
  ENOENT: "file_not_found",
  EACCES: "file_forbidden",
  EPERM: "file_forbidden",
  EROFS: "file_forbidden",
  EEXIST: "file_conflict",
  ENOTDIR: "file_conflict",
  EISDIR: "file_conflict",
  ENOTEMPTY: "file_conflict",
  EBUSY: "file_conflict",
  ETXTBSY: "file_conflict",
  EXDEV: "file_conflict",
  EINVAL: "file_invalid",
  ENAMETOOLONG: "file_invalid",
  ELOOP: "file_invalid",
  ESTALE: "file_changed",
  ENOSPC: "file_no_space",
  EDQUOT: "file_no_space",
  EFBIG: "file_no_space",
};

/** What the agent says when it is not the file system that refused. */
const BY_AGENT: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  AGENT_BUSY: ["busy", "too many file calls run in this sprite, or its file systems do not answer"],
  AGENT_INNER_FAILED: ["guest_linux_failed", "the Linux on the sprite's disk did not come up"],
};

const MESSAGE_CHARACTERS_MAX = 300;

/** An `ApiError` for a guest's refusal; anything else stays as it is. */
export function asFileError(error: unknown): unknown {
  if (!(error instanceof GuestFileError)) return error;
  const { code, path, offset } = error.failure;
  const agent = BY_AGENT[code];
  if (agent) return new ApiError(agent[0], agent[1], { cause: error });
  if (code.startsWith("AGENT_"))
    return new ApiError("internal", "a fault of the server; its log has the cause under the request id", { cause: error });
  const details = { code, ...(path === null ? {} : { path: printable(path) }), ...(offset === null ? {} : { offset }) };
  // The sprite's own words, for its owner.
  return new ApiError(offset === null ? (BY_POSIX[code] ?? "file_io") : "file_offset", printable(error.failure.message), {
    details,
    cause: error,
  });
}

function printable(text: string): string {
  return text.replace(/[\x00-\x1f\x7f]/g, "�").slice(0, MESSAGE_CHARACTERS_MAX);
}
