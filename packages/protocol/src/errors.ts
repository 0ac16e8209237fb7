/**
 * The one registry of what can go wrong as an API client sees it, and the error that carries it.
 *
 * Invariants: every public error has a code of `ERRORS`; the code decides the HTTP status; the
 * message says what was wrong and what to do, and never contains a cause's text or a secret.
 * `docs/errors.md` lists the same codes (a test compares both ways).
 *
 * Status by kind: 400 wrong input · 401 no valid token · 403 not allowed · 404 not there ·
 * 405/426 wrong way to ask · 409 state forbids it · 410 gone · 413/431 too large · 429 too much at
 * once · 500 our fault · 501 not offered yet · 502/504 the guest's fault · 503 try again · 507 no room.
 */

/** What is known about a code. */
export interface ErrorEntry {
  /** HTTP status. */
  status: number;
  /** `never`: the same request fails again; `now`: may be repeated at once; `after`: repeat after a pause. */
  retry: "never" | "now" | "after";
  /** What the caller can do about it. */
  hint: string;
}

export const ERRORS = {
  unauthorized: { status: 401, retry: "never", hint: "Send `Authorization: Bearer <token>` with a token of this server." },
  token_revoked: { status: 401, retry: "never", hint: "Ask an administrator for a new token." },
  forbidden: { status: 403, retry: "never", hint: "Use a token that has this right, for example the admin token." },
  token_name_prefix: {
    status: 403,
    retry: "never",
    hint: "Use a sprite name that begins with the prefix the token is restricted to, or another token.",
  },
  not_found: { status: 404, retry: "never", hint: "Check the path against /openapi.json." },
  method_not_allowed: { status: 405, retry: "never", hint: "The `Allow` header lists the methods of this path." },
  websocket_required: { status: 426, retry: "never", hint: "Open this path as a WebSocket." },
  websocket_invalid: { status: 400, retry: "never", hint: "Send a WebSocket handshake of version 13." },
  not_available_yet: { status: 501, retry: "never", hint: "This server does not offer it yet; the message names what it is." },
  body_invalid: { status: 400, retry: "never", hint: "Correct the field that the message names." },
  field_unknown: { status: 400, retry: "never", hint: "Remove the field that the message names, or correct its spelling." },
  body_too_large: { status: 413, retry: "never", hint: "Send a smaller body; `limit` is the most it may be, in bytes." },
  header_too_large: { status: 431, retry: "never", hint: "Shorten the command, its environment or its arguments." },
  query_invalid: { status: 400, retry: "never", hint: "Correct the query parameter that the message names." },
  name_required: { status: 400, retry: "never", hint: "Give the sprite a name." },
  name_invalid: {
    status: 400,
    retry: "never",
    hint: "Use 1 to 63 lower-case letters, digits and hyphens; begin and end with a letter or digit.",
  },
  labels_invalid: { status: 400, retry: "never", hint: "Correct the label that the message names." },
  environment_invalid: { status: 400, retry: "never", hint: "Correct the variable that the message names." },
  size_beyond_host: { status: 400, retry: "never", hint: "Ask for less; the message says what this host can give." },
  storage_size: { status: 400, retry: "never", hint: "Ask for a `storage_gb` within the limits in the message." },
  image_unknown: {
    status: 400,
    retry: "never",
    hint: "Use one of the images of `sprited image list`, or build it with `sprited image build`.",
  },
  image_damaged: { status: 500, retry: "never", hint: "Rebuild the image with `sprited image build`." },
  disk_full: { status: 507, retry: "after", hint: "Free space on the host, or destroy sprites that are not needed." },
  disk_failed: { status: 500, retry: "never", hint: "The host's disk refused to read or write; look into its kernel's log." },
  disk_damaged: { status: 500, retry: "never", hint: "The sprite's disk is missing or damaged; look into the server's log." },
  sprite_not_found: { status: 404, retry: "never", hint: "Check the name and the organization of the token." },
  sprite_name_taken: { status: 409, retry: "never", hint: "Choose another name, or destroy the sprite that has it." },
  sprite_deleting: { status: 409, retry: "after", hint: "Wait until the sprite is gone." },
  sprite_failed: {
    status: 409,
    retry: "never",
    hint: "Restart the sprite; if that does not help, destroy it. The message says why it failed.",
  },
  session_not_found: { status: 404, retry: "never", hint: "List the sessions; ended ones are not kept for ever." },
  session_ended: { status: 410, retry: "never", hint: "Nothing to do: the command has ended." },
  job_not_found: { status: 404, retry: "never", hint: "List the jobs; ended ones are not kept for ever." },
  job_ended: { status: 410, retry: "never", hint: "Nothing to do: the job has ended." },
  webhook_refused: {
    status: 400,
    retry: "never",
    hint: "Use an http or https URL of a public host, without user name and password in it.",
  },
  exec_no_command: { status: 400, retry: "never", hint: "Give the command as `cmd` parameters, one for each argument." },
  exec_invalid: { status: 400, retry: "never", hint: "Correct what the message names." },
  idempotency_key_reused: {
    status: 409,
    retry: "never",
    hint: "Use a new key for another request; repeat the same request under the same key.",
  },
  template_not_found: { status: 404, retry: "never", hint: "List the templates; `NAME@VERSION` names a certain version." },
  template_size_fixed: {
    status: 400,
    retry: "never",
    hint: "Leave out the sizes that the message names, or use a template without memory: a memory runs only in a machine of its own form.",
  },
  template_in_use: { status: 409, retry: "never", hint: "Delete the pools that use it first, or delete it with `force=true`." },
  template_memory_missing: {
    status: 409,
    retry: "never",
    hint: "Make the template from a checkpoint taken with memory, or leave `memory` out.",
  },
  pool_not_found: { status: 404, retry: "never", hint: "List the pools." },
  pool_name_taken: { status: 409, retry: "never", hint: "Choose another name, or update the pool that has it." },
  pool_empty: {
    status: 503,
    retry: "after",
    hint: "Try again after `Retry-After`, claim with `wait_for_capacity`, or raise the pool's `min`.",
  },
  checkpoint_not_found: { status: 404, retry: "never", hint: "List the sprite's checkpoints." },
  archive_invalid: { status: 400, retry: "never", hint: "Export the sprite again; the message says what is wrong with the file." },
  fork_invalid: { status: 400, retry: "never", hint: "Correct `count` or `names` as the message says." },
  checkpoint_in_use: { status: 409, retry: "never", hint: "The message says what needs the checkpoint." },
  checkpoint_damaged: { status: 409, retry: "never", hint: "Restore another checkpoint; this one did not pass its check." },
  sprite_limit_exceeded: {
    status: 429,
    retry: "never",
    hint: "Destroy sprites that are not needed, or have the organization's quota raised.",
  },
  concurrent_sprite_limit_exceeded: {
    status: 429,
    retry: "after",
    hint: "Put sprites to sleep, or wait until idle ones do so; or have the organization's quota raised.",
  },
  disk_limit_exceeded: {
    status: 429,
    retry: "never",
    hint: "Delete sprites, checkpoints or templates, or have the organization's quota raised.",
  },
  checkpoint_limit_exceeded: {
    status: 429,
    retry: "never",
    hint: "Delete checkpoints that are not needed, or have the organization's quota raised.",
  },
  file_not_found: { status: 404, retry: "never", hint: "Check the path; relative ones begin at `workingDir`." },
  file_forbidden: {
    status: 403,
    retry: "never",
    hint: "The sprite's user may not do this; with `asRoot` root does it, unless the file system forbids it.",
  },
  file_conflict: { status: 409, retry: "never", hint: "What is at the path forbids it; `code` says what it is." },
  file_invalid: { status: 400, retry: "never", hint: "Correct the path, or choose another kind of file." },
  file_changed: { status: 412, retry: "never", hint: "The file is not what it was; read it again." },
  file_offset: { status: 409, retry: "now", hint: "Go on at the `offset` in the answer." },
  file_range: { status: 416, retry: "never", hint: "Ask for a part of the file; `size` is its size." },
  file_no_space: { status: 507, retry: "never", hint: "Free space on the sprite's disk, or make a sprite with a larger one." },
  file_io: { status: 502, retry: "after", hint: "The sprite's file system failed or does not answer; look into the sprite." },
  organization_not_found: { status: 404, retry: "never", hint: "List the organizations." },
  organization_slug_invalid: {
    status: 400,
    retry: "never",
    hint: "Use 1 to 32 lower-case letters, digits and hyphens; begin and end with a letter or digit.",
  },
  organization_slug_taken: { status: 409, retry: "never", hint: "Choose another slug." },
  token_not_found: { status: 404, retry: "never", hint: "List the organization's tokens." },
  vm_failed_to_start: { status: 503, retry: "after", hint: "Try again; if it stays, run `sprited doctor` on the host." },
  host_memory_full: {
    status: 503,
    retry: "after",
    hint: "Wait until other sprites sleep, or put one to sleep with `sprite sleep`; `limits.running_memory_mb` says what may run at once.",
  },
  sprite_stopped: {
    status: 503,
    retry: "now",
    hint: "The sprite was stopped on request, and its processes with it; the next request starts it again.",
  },
  sprite_restored: { status: 503, retry: "now", hint: "The sprite was put back to a checkpoint, and its processes were ended." },
  sprite_deleted: { status: 404, retry: "never", hint: "The sprite was destroyed while this was under way." },
  vm_lost: { status: 503, retry: "now", hint: "The sprite's machine ended unexpectedly; the next request starts it again." },
  guest_unresponsive: { status: 504, retry: "after", hint: "Try again; a restart of the sprite repairs a stuck guest." },
  guest_protocol: {
    status: 502,
    retry: "now",
    hint: "The machine answered nonsense and was cut off; restart the sprite if it happens again.",
  },
  guest_refused_start: {
    status: 503,
    retry: "after",
    hint: "The machine did not take over its identity and was ended; try again, the server's log has the step that failed.",
  },
  guest_failed: { status: 502, retry: "after", hint: "Try again; restart the sprite if it happens again." },
  guest_linux_failed: {
    status: 503,
    retry: "after",
    hint: "The Linux on the sprite's disk did not come up; the message says where it stopped.",
  },
  target_unreachable: { status: 502, retry: "after", hint: "Start what is to listen there; the message says why the connection failed." },
  operation_timeout: { status: 504, retry: "after", hint: "Try again; the work may still be going on." },
  busy: { status: 429, retry: "after", hint: "Too many requests wait for the same thing; send fewer at once." },
  shutting_down: { status: 503, retry: "after", hint: "The server is stopping; try again when it is back." },
  not_ready: { status: 503, retry: "after", hint: "The server is starting; wait until /healthz answers 200." },
  internal: { status: 500, retry: "never", hint: "A fault of the server; its log has the cause under the `request_id`." },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERRORS;

/** Pause proposed with `retry: "after"` when the error itself names none, s. */
const RETRY_AFTER_SECONDS = 2;

/**
 * Facts of one error beside its message, snake_case as on the wire. The named fields have fixed
 * types because official clients refuse the whole body when one is wrong.
 */
export interface ErrorDetails {
  /** Size of the limit that was hit. Integer. */
  limit?: number;
  /** Period of a rate limit, s. Integer. */
  window_seconds?: number;
  /** Pause before another attempt, s. Integer. */
  retry_after_seconds?: number;
  /** How many there are, against `limit`. Integer. */
  current_count?: number;
  upgrade_available?: boolean;
  upgrade_url?: string;
  /** Field of the body or parameter of the query that is wrong. */
  field?: string;
  /** Id of the request, to find it in the server's log. */
  request_id?: string;
  [name: string]: string | number | boolean | readonly string[] | undefined;
}

/** An error as JSON: `{error, message, ...details}`. */
export interface ErrorBody extends ErrorDetails {
  error: string;
  message: string;
}

const BRAND = Symbol.for("sprited.ApiError");
const INTEGER_DETAILS = ["limit", "window_seconds", "retry_after_seconds", "current_count"] as const;

/** An error with a code of the registry, made to be shown to API clients. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly code: ErrorCode;
  readonly details: ErrorDetails;
  readonly [BRAND] = true;

  /** `message` is public: neither a cause's message nor a secret belongs into it. */
  constructor(code: ErrorCode, message: string, options: { details?: ErrorDetails; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
  }

  /** True for errors of any copy of this class. */
  static is(error: unknown): error is ApiError {
    return typeof error === "object" && error !== null && (error as { [BRAND]?: unknown })[BRAND] === true;
  }

  get status(): number {
    return ERRORS[this.code].status;
  }

  /** Seconds for `Retry-After`; undefined when waiting does not help. */
  get retryAfterSeconds(): number | undefined {
    if (ERRORS[this.code].retry !== "after") return undefined;
    return Math.max(1, Math.ceil(this.details.retry_after_seconds ?? RETRY_AFTER_SECONDS));
  }

  /** The body to send. */
  toBody(): ErrorBody {
    const body: ErrorBody = { error: "", message: "", ...this.details };
    body.error = this.code;
    body.message = this.message;
    // Official clients show `error` of a file call as it is, and branch on `code`.
    if (this.details["code"] !== undefined) {
      body.error = this.message;
      body["reason"] = this.code;
    }
    for (const field of INTEGER_DETAILS) {
      const value = body[field];
      if (value !== undefined) body[field] = Math.ceil(value);
    }
    if (this.retryAfterSeconds !== undefined) body.retry_after_seconds = this.retryAfterSeconds;
    return body;
  }

  /**
   * Reads an error answer of a server. A body that is not of our form (a proxy's page, another
   * server) still gives an error: its code is the best guess by status, its message the text.
   */
  static fromAnswer(status: number, text: string): ApiError {
    const body = parseBody(text);
    const code = [body?.["error"], body?.["reason"]].find(isErrorCode) ?? codeForStatus(status);
    const message = firstText(body?.["message"], body?.["error"], text.trim().slice(0, 500)) ?? `the server answered ${status}`;
    return new ApiError(code, message, { details: detailsOf(body ?? {}) });
  }
}

/** True for a code of the registry. */
export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(ERRORS, code);
}

function parseBody(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined; // not JSON: the text itself is the message
  }
}

function detailsOf(body: Record<string, unknown>): ErrorDetails {
  const details: ErrorDetails = {};
  for (const [name, value] of Object.entries(body)) {
    if (name === "error" || name === "message") continue;
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") details[name] = value;
  }
  return details;
}

function firstText(...candidates: unknown[]): string | undefined {
  return candidates.find((candidate): candidate is string => typeof candidate === "string" && candidate !== "");
}

function codeForStatus(status: number): ErrorCode {
  const byStatus: Record<number, ErrorCode> = {
    400: "body_invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    426: "websocket_required",
    429: "busy",
    431: "header_too_large",
    501: "not_available_yet",
    503: "not_ready",
    504: "operation_timeout",
    507: "disk_full",
  };
  return byStatus[status] ?? "internal";
}
