/**
 * The daemon's database: queries built with Kysely, run by `node:sqlite` in this process.
 *
 * Invariants: a write is on the disk when its call returns (WAL, `synchronous=FULL`); calls are
 * synchronous, so a transaction can never be interleaved; one process has the file (the daemon's
 * lock sees to that).
 */
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { type CompiledQuery, DummyDriver, Kysely, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from "kysely";
import { StoreError } from "./errors.ts";
import { migrate } from "./migrations.ts";
import type { Schema } from "./schema.ts";

/** Prepared statements kept; queries are few and fixed. */
const STATEMENTS_MAX = 200;

/** A query that can be run, with the type of its rows. */
interface Query<Row> {
  compile(): CompiledQuery<Row>;
}

export class Database implements Disposable {
  /** Builds queries; runs none. */
  readonly query: Kysely<Schema>;
  readonly #connection: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #inTransaction = false;

  constructor(connection: DatabaseSync) {
    this.#connection = connection;
    this.query = new Kysely<Schema>({
      dialect: {
        createAdapter: () => new SqliteAdapter(),
        createDriver: () => new DummyDriver(),
        createIntrospector: (db) => new SqliteIntrospector(db),
        createQueryCompiler: () => new SqliteQueryCompiler(),
      },
    });
  }

  /** All rows of a query. */
  all<Row>(query: Query<Row>): Row[] {
    const { sql, parameters } = query.compile();
    return this.#statement(sql).all(...(parameters as SQLInputValue[])) as Row[];
  }

  /** The first row of a query, if there is one. */
  first<Row>(query: Query<Row>): Row | undefined {
    return this.all(query)[0];
  }

  /** Runs a query without rows; returns how many rows it changed. */
  run(query: Query<unknown>): number {
    const { sql, parameters } = query.compile();
    return Number(this.#statement(sql).run(...(parameters as SQLInputValue[])).changes);
  }

  /**
   * As `run`, but the write need not be on the disk when it returns: it survives the end of this
   * process, not that of the host's power. Inside a transaction it is like any other.
   */
  runUnflushed(query: Query<unknown>): number {
    if (this.#inTransaction) return this.run(query);
    this.#connection.exec("PRAGMA synchronous = NORMAL");
    try {
      return this.run(query);
    } finally {
      this.#connection.exec("PRAGMA synchronous = FULL");
    }
  }

  /** Runs `work` as one transaction: all of it is written, or nothing when it throws. */
  transaction<T>(work: () => T): T {
    if (this.#inTransaction) return work();
    this.#connection.exec("BEGIN IMMEDIATE");
    this.#inTransaction = true;
    try {
      const result = work();
      this.#connection.exec("COMMIT");
      return result;
    } catch (error) {
      this.#connection.exec("ROLLBACK");
      throw error;
    } finally {
      this.#inTransaction = false;
    }
  }

  close(): void {
    this.#statements.clear();
    if (this.#connection.isOpen) this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #statement(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known) return known;
    const statement = this.#connection.prepare(sql);
    if (this.#statements.size < STATEMENTS_MAX) this.#statements.set(sql, statement);
    return statement;
  }
}

/**
 * Opens the database at `path` (made when missing; `:memory:` for tests) and brings it to the
 * newest schema. Throws `StoreError`.
 */
export function openDatabase(path: string): Database {
  let connection: DatabaseSync | undefined;
  try {
    connection = new DatabaseSync(path);
    connection.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000;");
    const database = new Database(connection);
    migrate(database);
    return database;
  } catch (error) {
    connection?.close();
    if (error instanceof StoreError) throw error;
    throw new StoreError("store_damaged", `${path} cannot be used as the database; restore it from a backup or move it away`, {
      cause: error,
    });
  }
}

/** `SQLITE_CONSTRAINT_UNIQUE` and `SQLITE_CONSTRAINT_PRIMARYKEY`. */
const UNIQUE_CODES = [2067, 1555];

/** True when a write failed because the key is taken. */
export function isTaken(error: unknown): boolean {
  return error instanceof Error && UNIQUE_CODES.includes((error as { errcode?: number }).errcode ?? 0);
}
