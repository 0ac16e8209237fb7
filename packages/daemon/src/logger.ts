import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from "node:fs";
import path from "node:path";
import type { LogFields, Logger } from "@sprited/base";
import { type Logger as Pino, pino } from "pino";

/**
 * The daemon's log: JSON lines in `log/sprited.log`, and from `warn` on also for people on the
 * terminal. Invariants: bounded (one old file is kept); secrets are removed here and nowhere else.
 */

/** Size at which the file is set aside, bytes. */
const LOG_BYTES_MAX = 16 * 1024 * 1024;

/** Names of fields that are never written, at the top and one level down. */
const SECRET_FIELDS = ["token", "key", "authorization", "cookie", "proof", "entropy"];

export interface LoggerOptions {
  level: "debug" | "info" | "warn" | "error";
  /** Lines go here; undefined: standard error. */
  directory?: string | undefined;
  /** Gets each line of `warn` and above as text for people. */
  onWarning?: ((text: string) => void) | undefined;
}

/** Opens the log of a main program. */
export function openLogger(options: LoggerOptions): Logger {
  const file = options.directory === undefined ? undefined : new BoundedFile(options.directory);
  const destination = {
    write: (line: string): void => {
      if (file) file.write(line);
      else process.stderr.write(line);
    },
  };
  const root = pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: SECRET_FIELDS.flatMap((name) => [name, `*.${name}`]),
    },
    destination,
  );
  return bind(root, options.onWarning);
}

function bind(target: Pino, onWarning: ((text: string) => void) | undefined): Logger {
  return {
    debug: (fields, message) => target.debug(fields, message),
    info: (fields, message) => target.info(fields, message),
    warn: (fields, message) => {
      target.warn(fields, message);
      onWarning?.(message);
    },
    error: (fields, message) => {
      target.error(fields, message);
      onWarning?.(message);
    },
    child: (fields: LogFields) => bind(target.child(fields), onWarning),
  };
}

/** A file that is set aside when it has grown; synchronous, so that the last words before a crash are in it. */
class BoundedFile {
  readonly #path: string;
  #descriptor: number;
  #bytes: number;

  constructor(directory: string) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#path = path.join(directory, "sprited.log");
    this.#descriptor = openSync(this.#path, "a", 0o600);
    this.#bytes = fstatSync(this.#descriptor).size;
  }

  write(line: string): void {
    if (this.#bytes > LOG_BYTES_MAX) this.#rotate();
    this.#bytes += writeSync(this.#descriptor, line);
  }

  #rotate(): void {
    closeSync(this.#descriptor);
    renameSync(this.#path, `${this.#path}.1`);
    this.#descriptor = openSync(this.#path, "a", 0o600);
    this.#bytes = 0;
  }
}
