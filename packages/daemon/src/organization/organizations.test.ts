import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { type Clock, type LogFields, silentLogger, systemClock } from "@sprited/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Database, findToken, openDatabase } from "../store/index.ts";
import { requireAdmin, requireSpriteName } from "./caller.ts";
import { ensureFirstToken } from "./first-token.ts";
import { Organizations } from "./organizations.ts";
import { parseToken } from "./token-text.ts";

let database: Database;
let nowMs = 1_800_000_000_000;
const clock: Clock = { ...systemClock, nowMs: () => nowMs };
const open = (): Organizations => new Organizations({ database, clock, logger: silentLogger });

beforeEach(() => {
  database = openDatabase(":memory:");
});
afterEach(() => database.close());

const plain = { description: "", namePrefix: undefined, admin: false };

describe("tokens", () => {
  it("[API-8] have four parts, authenticate their organization, and are stored as a hash", () => {
    const organizations = open();
    const acme = organizations.create("acme", "Acme");
    const { record, text } = organizations.createToken(acme, plain);
    expect(text.split("/")).toEqual(["acme", acme.id, record.id, expect.stringMatching(/^[A-Za-z0-9_-]{43}$/)]);
    expect(organizations.authenticate(text)).toEqual({
      organizationId: acme.id,
      organizationSlug: "acme",
      tokenId: record.id,
      admin: false,
      namePrefix: undefined,
    });
    const stored = JSON.stringify(findToken(database, record.id));
    expect(stored).not.toContain(parseToken(text)?.secret);
    expect(open().authenticate(text).tokenId).toBe(record.id);
  });

  it("[API-8] are refused when any part is wrong", () => {
    const organizations = open();
    const acme = organizations.create("acme", "Acme");
    const other = organizations.create("other", "Other");
    const { text } = organizations.createToken(acme, plain);
    const [slug, , id, secret] = text.split("/") as [string, string, string, string];
    for (const wrong of [
      "",
      "x",
      "a/b/c/d",
      text.slice(0, -1),
      `${text}x`,
      `${text}/`,
      `${slug}/${other.id}/${id}/${secret}`,
      `${slug}/${acme.id}/zzzzzzzzzzzz/${secret}`,
      "x".repeat(10_000),
    ]) {
      expect(() => organizations.authenticate(wrong), wrong).toThrow(expect.objectContaining({ code: "unauthorized" }));
    }
  });

  it("[API-8] are refused at once after they were revoked, and say so", () => {
    const organizations = open();
    const acme = organizations.create("acme", "Acme");
    const { record, text } = organizations.createToken(acme, plain);
    organizations.revokeToken(acme, record.id);
    expect(() => organizations.authenticate(text)).toThrow(expect.objectContaining({ code: "token_revoked" }));
    expect(() => organizations.revokeToken(acme, "nope")).toThrow(expect.objectContaining({ code: "token_not_found" }));
    expect(() => organizations.revokeToken(organizations.create("b", "B"), record.id)).toThrow(
      expect.objectContaining({ code: "token_not_found" }),
    );
  });

  it("show when they were used, to the minute, also after a restart", () => {
    const organizations = open();
    const acme = organizations.create("acme", "Acme");
    const { record, text } = organizations.createToken(acme, plain);
    organizations.authenticate(text);
    const firstMs = nowMs;
    nowMs += 1_000;
    organizations.authenticate(text);
    expect(organizations.listTokens(acme)[0]?.lastUsedAtMs).toBe(firstMs);
    nowMs += 60_000;
    organizations.authenticate(text);
    expect(organizations.listTokens(acme)[0]?.lastUsedAtMs).toBe(nowMs);
    organizations.close();
    expect(open().listTokens(acme)).toEqual([{ ...record, lastUsedAtMs: nowMs }]);
  });

  it("a store that cannot be written does not end the daemon over a time of use", () => {
    const lines: LogFields[] = [];
    const organizations = new Organizations({ database, clock, logger: { ...silentLogger, warn: (fields) => void lines.push(fields) } });
    organizations.authenticate(organizations.createToken(organizations.create("acme", "Acme"), plain).text);
    database.close();
    organizations.close();
    expect(lines).toEqual([expect.objectContaining({ event: "token.last_used" })]);
    database = openDatabase(":memory:");
  });
});

describe("rights", () => {
  const caller = { organizationId: "o", organizationSlug: "s", tokenId: "t", admin: false, namePrefix: "mcp-" };

  it("[API-7] a restricted token is refused with its prefix", () => {
    expect(() => requireSpriteName(caller, "web")).toThrow(
      expect.objectContaining({ code: "token_name_prefix", message: expect.stringContaining('"mcp-"') }),
    );
    expect(() => requireSpriteName(caller, "mcp-web")).not.toThrow();
    expect(() => requireSpriteName({ ...caller, namePrefix: undefined }, "web")).not.toThrow();
  });

  it("[API-9] only admin tokens manage", () => {
    expect(() => requireAdmin(caller)).toThrow(expect.objectContaining({ code: "forbidden" }));
    expect(() => requireAdmin({ ...caller, admin: true })).not.toThrow();
  });
});

describe("organizations", () => {
  it("have one slug each and are there after a restart", () => {
    const organizations = open();
    const acme = organizations.create("acme", "Acme");
    expect(() => organizations.create("acme", "Again")).toThrow(expect.objectContaining({ code: "organization_slug_taken" }));
    expect(open().get("acme")).toEqual(acme);
    expect(open().slugOf(acme.id)).toBe("acme");
    expect(() => open().get("nope")).toThrow(expect.objectContaining({ code: "organization_not_found" }));
  });
});

describe("ensureFirstToken", () => {
  let directory: string;
  let file: string;
  beforeEach(async () => {
    directory = await fs.mkdtemp(path.join(os.tmpdir(), "token-test-"));
    file = path.join(directory, "token");
  });
  afterEach(() => fs.rm(directory, { recursive: true, force: true }));

  it("makes an admin token that only its owner can read, once", async () => {
    const organizations = open();
    expect(await ensureFirstToken(organizations, file)).toEqual({ created: true });
    const text = await fs.readFile(file, "utf8");
    expect(organizations.authenticate(text.trim())).toMatchObject({ admin: true, organizationSlug: "local" });
    expect((await fs.stat(file)).mode & 0o777).toBe(0o600);
    expect(await ensureFirstToken(open(), file)).toEqual({ created: false });
    expect(await fs.readFile(file, "utf8")).toBe(text);
    expect(await fs.readdir(directory)).toEqual(["token"]);
  });

  it("replaces a token of another database and one that was lost, and closes a file that was opened up", async () => {
    const organizations = open();
    await fs.writeFile(file, "local/x/y/z\n", { mode: 0o644 });
    expect(await ensureFirstToken(organizations, file)).toEqual({ created: true });
    await fs.chmod(file, 0o644);
    expect(await ensureFirstToken(organizations, file)).toEqual({ created: false });
    expect((await fs.stat(file)).mode & 0o777).toBe(0o600);
    await fs.rm(file);
    await fs.writeFile(path.join(directory, ".token.new"), "left by a crash");
    expect(await ensureFirstToken(organizations, file)).toEqual({ created: true });
    expect(organizations.list()).toHaveLength(1);
  });
});
