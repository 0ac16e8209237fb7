import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync, readFileSync, lstatSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { currentSelection, emptyAccounts, listAccounts, loadAccounts, removeAccounts, saveAccounts, withAccount } from "./accounts.ts";
import { normalizeApiUrl, resolveApiUrl, splitOrgFlag } from "./api-url.ts";
import { readSpriteFile, writeSpriteFile } from "./sprite-file.ts";

const account = { apiUrl: "https://a.example", org: "team", token: "secret" };
let dir: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "accounts-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

describe("accounts", () => {
  test("[CLI-6] what was saved is loaded again, from private files, without the token in sprites.json", () => {
    const home = path.join(dir, ".sprites");
    saveAccounts(home, withAccount(emptyAccounts(), account));
    expect(listAccounts(loadAccounts(home))).toEqual([{ ...account, selected: true }]);
    expect(statSync(home).mode & 0o777).toBe(0o700);
    for (const name of ["sprites.json", "tokens.json"]) expect(statSync(path.join(home, name)).mode & 0o777).toBe(0o600);
    expect(readFileSync(path.join(home, "sprites.json"), "utf8")).not.toContain("secret");
    expect(removeAccounts(home)).toBe(true);
    expect(removeAccounts(home)).toBe(false);
  });

  test("[CLI-6] entries and fields of other programs are kept", () => {
    const foreign = {
      version: "1",
      extra: { a: 1 },
      current_selection: { url: "https://b.example", org: "x" },
      urls: { "https://b.example": { note: 1, orgs: { x: { name: "x", keyring_key: "k", use_keyring: true, sprites: { s: {} } } } } },
    };
    writeFileSync(path.join(dir, "sprites.json"), JSON.stringify(foreign));
    const loaded = loadAccounts(dir);
    expect(listAccounts(loaded)).toEqual([{ apiUrl: "https://b.example", org: "x", token: undefined, selected: true }]);
    const next = withAccount(loaded, account);
    expect(next.sprites).toMatchObject({ extra: { a: 1 }, urls: foreign.urls });
    expect(currentSelection(next)).toEqual({ apiUrl: account.apiUrl, org: "team" });
  });

  test("[CLI-6] a settings file that is a link stays one", () => {
    mkdirSync(path.join(dir, "real"));
    writeFileSync(path.join(dir, "real/s.json"), "{}");
    symlinkSync(path.join(dir, "real/s.json"), path.join(dir, "sprites.json"));
    saveAccounts(dir, withAccount(emptyAccounts(), account));
    expect(lstatSync(path.join(dir, "sprites.json")).isSymbolicLink()).toBe(true);
    expect(listAccounts(loadAccounts(dir))).toHaveLength(1);
  });

  test.each(["not json", "[]", "null", ""])("[CLI-8] a damaged file is named: %j", (content) => {
    writeFileSync(path.join(dir, "sprites.json"), content);
    expect(() => loadAccounts(dir)).toThrow(/sprites\.json does not contain a JSON object/);
  });

  test("[CLI-6] names such as __proto__ are just names", () => {
    const next = withAccount(emptyAccounts(), { ...account, org: "__proto__" });
    expect(({} as { name?: string }).name).toBeUndefined();
    expect(next.tokens[`sprites:org:${account.apiUrl}:__proto__`]).toBe("secret");
  });
});

describe(".sprite", () => {
  test("[CLI-16] is written and read; odd content counts as nothing", () => {
    writeSpriteFile(dir, { organization: "team", sprite: "dev" });
    expect(readSpriteFile(dir)).toEqual({ organization: "team", sprite: "dev" });
    writeFileSync(path.join(dir, ".sprite"), '{"organization":1,"sprite":""}');
    expect(readSpriteFile(dir)).toEqual({ organization: undefined, sprite: undefined });
    expect(readSpriteFile(path.join(dir, "none"))).toBeUndefined();
  });
});

describe("API URLs", () => {
  test.each([
    ["http://127.0.0.1:7780/", "http://127.0.0.1:7780"],
    ["127.0.0.1:7780", "http://127.0.0.1:7780"],
    ["localhost:80", "http://localhost"],
    ["sprites.example.com", "https://sprites.example.com"],
    ["HTTPS://Sprites.Example.com/base//", "https://sprites.example.com/base"],
    ["[::1]:99", "http://[::1]:99"],
  ])("[CLI-2] %s is %s", (text, url) => {
    expect(normalizeApiUrl(text)).toBe(url);
  });

  test.each(["", "ftp://x", "http://", "https://user:pw@x.example", "a b"])("[CLI-2] %j is none", (text) => {
    expect(() => normalizeApiUrl(text)).toThrow(/URL/);
  });

  test("[CLI-2] aliases: built in, a known host, with or without port", () => {
    const known = ["https://a.example:8443", "http://127.0.0.1:7780", "http://127.0.0.1:7781"];
    expect(resolveApiUrl("local", known)).toBe("http://127.0.0.1:7780");
    expect(resolveApiUrl("sprites", known)).toBe("https://api.sprites.dev");
    expect(resolveApiUrl("a.example", known)).toBe("https://a.example:8443");
    expect(resolveApiUrl("127.0.0.1:7781", known)).toBe("http://127.0.0.1:7781");
    expect(() => resolveApiUrl("127.0.0.1", known)).toThrow(/can mean/);
  });

  test.each([
    ["team", { api: undefined, org: "team" }],
    ["local:team", { api: "local", org: "team" }],
    ["https://a.example:8443:team", { api: "https://a.example:8443", org: "team" }],
    ["local:", { api: "local", org: undefined }],
    ["", { api: undefined, org: undefined }],
  ])("[CLI-1] -o %s", (text, parts) => {
    expect(splitOrgFlag(text)).toEqual(parts);
  });
});
