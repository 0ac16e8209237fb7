/** Fields of one log line. Values must be plain data; errors go under `err`. */
export type LogFields = Record<string, unknown>;

/**
 * What every part logs through. The two mains bind it to a real logger; nothing below them
 * knows which. One line per finished operation: `event`, `outcome`, `durationMs` and ids.
 */
export interface Logger {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
  child(fields: LogFields): Logger;
}

/** A logger that drops everything. */
export const silentLogger: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child() {
    return silentLogger;
  },
};
