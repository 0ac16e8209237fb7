import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Database, openDatabase } from "./database.ts";
import { MIGRATIONS, migrate } from "./migrations.ts";
import { insertOrganization, loadOrganizations } from "./organizations.ts";
import { spriteRecords } from "./sprite-records.ts";
import type { SpriteRecord } from "./sprites.ts";
import { findToken, insertToken, listTokens, revokeToken, type TokenRecord, updateLastUsed } from "./tokens.ts";
import type { VmRecord } from "./vms.ts";

type State = { kind: string; incarnation?: string };

let database: Database;

const organization = { id: "org1", slug: "acme", name: "Acme", createdAtMs: 1 };
const sprite: SpriteRecord = {
  id: "s1",
  organizationId: "org1",
  name: "hello",
  config: { cpus: 2, memoryMib: 2048, storageGb: 100 },
  environment: { A: "1", "Ä b": "x=y" },
  labels: ["x", "y"],
  urlSettings: { auth: "public", privateAccess: undefined },
  imageName: "default",
  imageDigest: "sha256:1",
  createdAtMs: 1_800_000_000_000,
  updatedAtMs: 1_800_000_000_001,
  lastRunningAtMs: undefined,
};
const vm: VmRecord = {
  incarnation: "i1",
  spriteId: "s1",
  directory: "/run/i1",
  slotIndex: 3,
  key: new Uint8Array(32).fill(7),
  createdAtMs: 5,
};
const token: TokenRecord = {
  id: "t1",
  organizationId: "org1",
  description: "d",
  secretHash: "00",
  namePrefix: undefined,
  admin: true,
  createdAtMs: 1,
  lastUsedAtMs: undefined,
  revokedAtMs: undefined,
};

beforeEach(() => {
  database = openDatabase(":memory:");
  insertOrganization(database, organization);
});
afterEach(() => database.close());

describe("sprites", () => {
  it("come back as they were written, with their state", () => {
    const records = spriteRecords<State>(database);
    records.insertSprite(sprite, { kind: "creating" });
    expect(records.loadSprites()).toEqual([{ sprite, state: { kind: "creating" }, isUnfinished: false }]);
    const changed: SpriteRecord = {
      ...sprite,
      labels: [],
      urlSettings: { auth: "sprite", privateAccess: "admins" },
      updatedAtMs: 2_000_000_000_000,
    };
    records.updateSprite(changed);
    expect(records.loadSprites()).toEqual([{ sprite: changed, state: { kind: "creating" }, isUnfinished: false }]);
  });

  it("of a batch are unfinished until it is finished, and their rows go with them", () => {
    const records = spriteRecords<State>(database);
    records.insertSprite(sprite, { kind: "creating" }, "b1");
    records.insertSprite({ ...sprite, id: "s2", name: "other" }, { kind: "creating" }, "b1");
    expect(records.loadSprites().map(({ isUnfinished }) => isUnfinished)).toEqual([true, true]);
    records.deleteSprite("s2");
    records.finishBatch("b1");
    expect(records.loadSprites().map(({ isUnfinished }) => isUnfinished)).toEqual([false]);
  });

  it("have one name once in an organization", () => {
    const records = spriteRecords<State>(database);
    records.insertSprite(sprite, { kind: "cold" });
    expect(() => records.insertSprite({ ...sprite, id: "s2" }, { kind: "cold" })).toThrow();
    insertOrganization(database, { ...organization, id: "org2", slug: "other" });
    records.insertSprite({ ...sprite, id: "s2", organizationId: "org2" }, { kind: "cold" });
    expect(records.loadSprites()).toHaveLength(2);
  });

  it("change state and VM together or not at all", () => {
    const records = spriteRecords<State>(database);
    records.insertSprite(sprite, { kind: "cold" });
    records.updateState("s1", { kind: "waking", incarnation: "i1" }, { machineBegun: vm });
    expect(records.loadMachines()).toEqual([vm]);
    // A second VM with the same incarnation is refused, and the state that came with it too.
    expect(() => records.updateState("s1", { kind: "running", incarnation: "i1" }, { machineBegun: vm })).toThrow();
    expect(records.loadSprites()[0]?.state).toEqual({ kind: "waking", incarnation: "i1" });
    records.updateState("s1", { kind: "cold" }, { machineEnded: "i1", lastRunningAtMs: 9 });
    expect(records.loadMachines()).toEqual([]);
    expect(records.loadSprites()[0]).toMatchObject({ state: { kind: "cold" }, sprite: { lastRunningAtMs: 9 } });
  });

  it("are not deleted while a VM is on record", () => {
    const records = spriteRecords<State>(database);
    records.insertSprite(sprite, { kind: "cold" });
    records.updateState("s1", { kind: "running" }, { machineBegun: vm });
    expect(() => records.deleteSprite("s1")).toThrow();
    records.updateState("s1", { kind: "deleting" }, { machineEnded: "i1" });
    records.deleteSprite("s1");
    expect(records.loadSprites()).toEqual([]);
  });

  it("with a state of another version are refused, not guessed", () => {
    const records = spriteRecords<State>(database);
    records.insertSprite(sprite, { kind: "cold" });
    database.run(database.query.updateTable("sprites").set({ state_version: 99 }));
    expect(() => records.loadSprites()).toThrow(expect.objectContaining({ code: "store_newer" }));
    database.run(database.query.updateTable("sprites").set({ state_version: 1, state: "{" }));
    expect(() => records.loadSprites()).toThrow(expect.objectContaining({ code: "store_damaged" }));
  });
});

describe("organizations and tokens", () => {
  it("a slug is taken once", () => {
    expect(insertOrganization(database, { ...organization, id: "org2" })).toBe(false);
    expect(loadOrganizations(database)).toEqual([organization]);
  });

  it("tokens are found, listed, used and revoked once", () => {
    insertToken(database, token);
    insertToken(database, { ...token, id: "t2", namePrefix: "mcp-", admin: false, createdAtMs: 2 });
    expect(findToken(database, "t1")).toEqual(token);
    expect(listTokens(database, "org1").map(({ id }) => id)).toEqual(["t1", "t2"]);
    updateLastUsed(database, new Map([["t2", 77]]));
    expect(findToken(database, "t2")).toMatchObject({ lastUsedAtMs: 77, namePrefix: "mcp-", admin: false });
    expect(revokeToken(database, { organizationId: "org1", id: "t1" }, 5)).toBe(true);
    expect(revokeToken(database, { organizationId: "org1", id: "t1" }, 6)).toBe(true);
    expect(findToken(database, "t1")?.revokedAtMs).toBe(5);
    expect(revokeToken(database, { organizationId: "org2", id: "t2" }, 5)).toBe(false);
    expect(revokeToken(database, { organizationId: "org1", id: "t9" }, 5)).toBe(false);
  });
});

describe("the database", () => {
  it("nested work is part of the outer transaction", () => {
    expect(() =>
      database.transaction(() => {
        database.transaction(() => insertOrganization(database, { ...organization, id: "org2", slug: "b" }));
        throw new Error("outer");
      }),
    ).toThrow("outer");
    expect(loadOrganizations(database)).toHaveLength(1);
  });

  it("migrates step by step, each once, and refuses what is newer", () => {
    const added = { name: "add a table", steps: (d: Database) => [d.query.schema.createTable("extra").addColumn("id", "text")] };
    migrate(database, [...MIGRATIONS, added]);
    migrate(database, [...MIGRATIONS, added]);
    const applied = database.all(database.query.selectFrom("migrations").select("version").orderBy("version"));
    expect(applied.map(({ version }) => version)).toEqual([...MIGRATIONS.keys(), MIGRATIONS.length].map((index) => index + 1));
    expect(() => migrate(database, MIGRATIONS)).toThrow(expect.objectContaining({ code: "store_newer" }));
  });

  it("a failing migration leaves nothing of itself", () => {
    const broken = {
      name: "broken",
      steps: (d: Database) => [d.query.schema.createTable("half").addColumn("id", "text"), d.query.schema.dropTable("missing")],
    };
    expect(() => migrate(database, [...MIGRATIONS, broken])).toThrow();
    const tables = { compile: () => ({ sql: "SELECT name FROM sqlite_master", parameters: [] }) as never };
    expect(JSON.stringify(database.all(tables))).not.toContain("half");
    expect(database.all(database.query.selectFrom("migrations").select("version"))).toHaveLength(MIGRATIONS.length);
  });
});

describe("the file", () => {
  let directory: string;
  beforeEach(() => {
    directory = fs.mkdtempSync(path.join(os.tmpdir(), "store-test-"));
  });
  afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

  it("keeps what was written when the process is killed right after the call", () => {
    const file = path.join(directory, "db");
    const script = `
      const { openDatabase, insertOrganization } = await import(${JSON.stringify(path.join(import.meta.dirname, "index.ts"))});
      const database = openDatabase(${JSON.stringify(file)});
      insertOrganization(database, { id: "o", slug: "kept", name: "n", createdAtMs: 1 });
      process.kill(process.pid, "SIGKILL");`;
    expect(() => execFileSync(process.execPath, ["--input-type=module", "-e", script], { stdio: "ignore" })).toThrow();
    using reopened = openDatabase(file);
    expect(loadOrganizations(reopened).map(({ slug }) => slug)).toEqual(["kept"]);
  });

  it("that is no database is refused with a way out", () => {
    const file = path.join(directory, "db");
    fs.writeFileSync(file, "this is not a database, not at all, and long enough to be sure of it".repeat(20));
    expect(() => openDatabase(file)).toThrow(
      expect.objectContaining({ code: "store_damaged", message: expect.stringContaining("backup") }),
    );
  });
});
