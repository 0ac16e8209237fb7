/**
 * From the facts of the lower parts to public errors. Total: a new code of a driver, the disk or
 * the guest link does not compile until it is mapped here.
 *
 * A lower error's own message is for the log; what the public reads is written here.
 */
import { DeadlineError, MailboxFullError, ScopeError } from "@sprited/base";
import { DiskError, type DiskErrorCode } from "@sprited/disk";
import { ApiError, type ErrorCode } from "@sprited/protocol/errors";
import { VmmError, type VmmErrorCode } from "@sprited/vmm";
import { GuestError, type GuestFault } from "../guest/errors.ts";

export const ERROR_MAP: Record<VmmErrorCode | DiskErrorCode | GuestFault, ErrorCode> = {
  vmm_unavailable: "vm_failed_to_start",
  vmm_exited_early: "vm_failed_to_start",
  vmm_timeout: "vm_failed_to_start",
  vmm_control: "vm_lost",
  vmm_snapshot_unusable: "vm_failed_to_start",
  vmm_not_shared: "internal",
  vmm_network: "vm_failed_to_start",
  disk_full: "disk_full",
  disk_damaged: "disk_damaged",
  disk_image_unknown: "image_unknown",
  disk_image_invalid: "image_damaged",
  disk_build_failed: "image_damaged",
  disk_size: "storage_size",
  disk_pool: "internal",
  disk_io: "disk_failed",
  guest_timeout: "guest_unresponsive",
  guest_link_lost: "vm_lost",
  guest_protocol: "guest_protocol",
  guest_inner_failed: "guest_linux_failed",
  guest_session_unknown: "session_not_found",
  guest_session_exists: "internal",
  guest_refused: "exec_invalid",
  guest_refused_start: "guest_refused_start",
  guest_unreachable: "target_unreachable",
  guest_busy: "busy",
  guest_failed: "guest_failed",
};

/** What the public reads of a lower error. */
const PUBLIC_MESSAGES: Partial<Record<ErrorCode, string>> = {
  vm_failed_to_start: "the sprite's machine did not start",
  vm_lost: "the connection to the sprite's machine was lost",
  disk_full: "the host has not enough free space for this",
  disk_failed: "the host's disk refused to read or write",
  disk_damaged: "a disk file is missing or damaged",
  image_unknown: "there is no such image",
  image_damaged: "the image is incomplete or damaged",
  storage_size: "the disk size is outside the limits of this host",
  guest_unresponsive: "the sprite's machine did not answer in time",
  guest_protocol: "the sprite's machine answered nonsense and was cut off",
  target_unreachable: "nothing in the sprite took the connection",
  guest_linux_failed: "the Linux on the sprite's disk did not come up",
  guest_refused_start: "the sprite's machine did not take over its identity",
  guest_failed: "the sprite's machine reported a fault of its own",
  busy: "the sprite holds as many commands as it can",
  session_not_found: "the session is not known any more",
  exec_invalid: "the sprite refused the command as invalid",
};

const INTERNAL = "a fault of the server; its log has the cause under the request id";

/** What SQLite says of the file system below it; the upper bits of an error code say more. */
const SQLITE_FULL = 13;
const SQLITE_IOERR = 10;

/**
 * What the host's file system refused, wherever it was met: the parts between know only that
 * their own work failed. Undefined when it did not.
 */
function diskFaultOf(error: unknown): "disk_full" | "disk_failed" | undefined {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    const { code, errcode } = cause as { code?: unknown; errcode?: unknown };
    if (code === "ENOSPC" || code === "EDQUOT" || errcode === SQLITE_FULL) return "disk_full";
    if (code === "EIO" || code === "EROFS" || (typeof errcode === "number" && errcode % 256 === SQLITE_IOERR)) return "disk_failed";
  }
  return undefined;
}

/** What failed first: of work whose clean-up failed too, the work; of several steps, the first. */
function firstFailure(error: unknown): unknown {
  if (error instanceof SuppressedError) return firstFailure(error.suppressed);
  if (error instanceof ScopeError && error.errors.length > 0) return firstFailure((error.errors[0] as Error).cause);
  return error;
}

/** The public form of anything thrown. An `ApiError` stays what it is. */
export function toApiError(thrown: unknown): ApiError {
  const error = firstFailure(thrown);
  if (ApiError.is(error)) return error;
  const fault = diskFaultOf(error);
  if (fault) return new ApiError(fault, PUBLIC_MESSAGES[fault] ?? INTERNAL, { cause: error });
  if (error instanceof VmmError || error instanceof DiskError || error instanceof GuestError) {
    const code = ERROR_MAP[error.code];
    return new ApiError(code, PUBLIC_MESSAGES[code] ?? INTERNAL, { cause: error });
  }
  if (error instanceof DeadlineError) return new ApiError("operation_timeout", "it was not done in time", { cause: error });
  if (error instanceof MailboxFullError) return new ApiError("busy", "too many requests are waiting for this sprite", { cause: error });
  return new ApiError("internal", INTERNAL, { cause: error });
}
