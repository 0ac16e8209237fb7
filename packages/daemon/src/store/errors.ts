/** What can be wrong with the database as a whole; the daemon does not start with such a one. */
export type StoreErrorCode =
  /** The database was written by a newer version. */
  | "store_newer"
  /** The file is no database, or a record in it cannot be read. */
  | "store_damaged";

export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly code: StoreErrorCode;
  constructor(code: StoreErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
