/** What an error of a start says about the command. Pure. */
import { DiskError } from "@sprited/disk";
import { ApiError, type ErrorCode } from "@sprited/protocol/errors";
import { VmmError } from "@sprited/vmm";
import { guestRefused } from "../exec/index.ts";

/** Errors that come before the guest is asked for anything: the command has not run. */
const NOT_STARTED = new Set<ErrorCode>([
  "sprite_not_found",
  "sprite_deleting",
  "sprite_failed",
  "exec_invalid",
  "exec_no_command",
  "vm_failed_to_start",
  "guest_refused_start",
  "guest_linux_failed",
  "busy",
  "disk_full",
  "disk_damaged",
  "image_damaged",
  "shutting_down",
]);

/** True when it is certain that the command never ran. */
export function neverStarted(error: unknown): boolean {
  if (ApiError.is(error)) return NOT_STARTED.has(error.code);
  // Machine and disk come before the command.
  return error instanceof VmmError || error instanceof DiskError || guestRefused(error);
}

/** Why a job whose start failed is lost, one sentence without a cause's text. */
export function startFailure(error: unknown): string {
  const what = neverStarted(error) ? "the command was not started" : "it is not known whether the command was started";
  return ApiError.is(error) ? `${what}: ${error.message}` : what;
}
