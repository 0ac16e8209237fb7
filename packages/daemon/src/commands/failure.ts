import { DeadlineError } from "@sprited/base";
import { DiskError, type DiskErrorCode } from "@sprited/disk";
import { VmmError } from "@sprited/vmm";
import { ConfigError } from "../config/index.ts";
import { LockedError } from "../lock.ts";
import { SetupError } from "../setup/index.ts";
import type { ExitName } from "./exit-codes.ts";

/**
 * What a command that failed says and which exit code it ends with. Pure. An error nobody
 * foresaw shows its stack: it is a bug, and the report needs it.
 */

/** A failure with an exit code of its own. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly exit: ExitName;
  constructor(exit: ExitName, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.exit = exit;
  }
}

const DISK_EXITS: Record<DiskErrorCode, ExitName> = {
  disk_full: "no_space",
  disk_damaged: "system_failed",
  disk_image_unknown: "image_failed",
  disk_image_invalid: "image_failed",
  disk_build_failed: "image_failed",
  disk_size: "failed",
  disk_pool: "home_unusable",
  disk_io: "failed",
};

/** What to print on standard error, and the exit code. */
export function explainFailure(error: unknown): { exit: ExitName; message: string } {
  if (error instanceof CommandError) return { exit: error.exit, message: error.message };
  if (error instanceof ConfigError) return { exit: "config", message: error.message };
  if (error instanceof SetupError) return { exit: error.code, message: error.message };
  if (error instanceof LockedError) return { exit: "home_busy", message: error.message };
  const daemon = daemonFailure(error);
  if (daemon) return daemon;
  const system = systemFailure(error);
  if (system) return system;
  if (error instanceof DiskError) {
    if (isNetworkFailure(error)) {
      return {
        exit: "no_network",
        message: `${error.message}\nThe package mirror cannot be reached. Check the network and start again; what was made so far is kept.`,
      };
    }
    return { exit: DISK_EXITS[error.code], message: withCauses(error) };
  }
  if (error instanceof DeadlineError) {
    return {
      exit: "vmm_failed",
      message: `${error.message}. A busy host with emulated CPUs may need more: raise SPRITED_TIMEOUTS_BOOT_MS; sprited doctor checks the host.`,
    };
  }
  if (error instanceof VmmError) return { exit: "vmm_failed", message: withCauses(error) };
  return { exit: "failed", message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

/** Errors of parts that are loaded only to serve: told by their names, so that mistakes on the command line stay quick. */
function daemonFailure(error: unknown): { exit: ExitName; message: string } | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error.name === "ListenError") return { exit: "port_busy", message: error.message };
  if (error.name === "StoreError") return { exit: "home_unusable", message: withCauses(error) };
  return undefined;
}

function systemFailure(error: unknown): { exit: ExitName; message: string } | undefined {
  const { code, syscall, path, address, port } = (error ?? {}) as NodeJS.ErrnoException & { address?: string; port?: number };
  if (code === "EADDRINUSE" && port !== undefined) {
    return {
      exit: "port_busy",
      message: `${address ?? ""}:${port} is in use by another program. Stop it, or set SPRITED_LISTEN to another address.`,
    };
  }
  if ((code === "EADDRNOTAVAIL" || code === "EACCES") && syscall === "listen") {
    return {
      exit: "port_busy",
      message: `${address ?? ""}:${port ?? ""} cannot be listened on (${code}). Set SPRITED_LISTEN to an address of this host and a port above 1023.`,
    };
  }
  if (code === "ENOSPC")
    return { exit: "no_space", message: `The disk is full${path === undefined ? "" : ` (${path})`}. Free some space and start again.` };
  if ((code === "EACCES" || code === "EROFS" || code === "EPERM") && path !== undefined) {
    return {
      exit: "home_unusable",
      message: `${path} cannot be used (${code}). Check owner and mode, or set SPRITED_HOME to a directory you own.`,
    };
  }
  return undefined;
}

/** Whether a chain of causes ends at a network that cannot be reached. */
function isNetworkFailure(error: Error): boolean {
  return /Temporary failure resolving|Could not resolve|Could not connect|Unable to connect|Network is unreachable|Connection timed out|No route to host/.test(
    causes(error).join("\n"),
  );
}

/** On the operator's own terminal the causes help; they never reach API clients. */
function withCauses(error: Error): string {
  return causes(error).join("\n  because: ");
}

function causes(error: Error): string[] {
  const found: string[] = [];
  for (let at: unknown = error; at instanceof Error && found.length < 10; at = at.cause) {
    const text =
      at instanceof AggregateError
        ? [at.message, ...at.errors.map((inner) => (inner instanceof Error ? inner.message : String(inner)))].join("; ")
        : at.message;
    if (!found.includes(text)) found.push(text);
  }
  return found;
}
