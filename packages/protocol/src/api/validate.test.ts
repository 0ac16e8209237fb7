import { describe, expect, it } from "vitest";
import type { ErrorCode } from "../errors.ts";
import { ENDPOINTS } from "./endpoints.ts";
import { validateBody } from "./validate.ts";

const create = ENDPOINTS.createSprite.body;

describe("bodies", () => {
  it("takes what the official clients send", () => {
    const body = {
      name: "a",
      config: { ram_mb: 512, cpus: 1, region: "iad", storage_gb: 10 },
      environment: { A: "1" },
      labels: ["x"],
      url_settings: { auth: "public", private_access: "org_users" },
      wait_for_capacity: false,
      runtime: "default",
    };
    expect(validateBody(create, body)).toEqual(body);
  });

  it.each<[unknown, ErrorCode, string | undefined, RegExp]>([
    [{}, "name_required", "name", /required/],
    [{ name: 5 }, "body_invalid", "name", /string/],
    [{ name: "" }, "name_invalid", "name", /empty/],
    [{ name: "A" }, "name_invalid", "name", /upper-case/],
    [{ name: "a", naem: "b" }, "field_unknown", "naem", /"naem"/],
    [{ name: "a", config: { ram: 1 } }, "field_unknown", "config.ram", /"config.ram"/],
    [{ name: "a", config: { cpus: 1.5 } }, "body_invalid", "config.cpus", /int/],
    [{ name: "a", config: { ram_mb: -1 } }, "body_invalid", "config.ram_mb", /./],
    [{ name: "a", config: { ram_mb: "512" } }, "body_invalid", "config.ram_mb", /number/],
    [{ name: "a", config: null }, "body_invalid", "config", /object/],
    [{ name: "a", labels: "x" }, "body_invalid", "labels", /array/],
    [{ name: "a", labels: ["\u0007"] }, "labels_invalid", "labels", /control/],
    [{ name: "a", environment: { A: 1 } }, "body_invalid", "environment.A", /string/],
    [{ name: "a", environment: { "=": "" } }, "environment_invalid", "environment", /=/],
    [{ name: "a", url_settings: { auth: "none" } }, "body_invalid", "url_settings.auth", /sprite/],
    [null, "body_invalid", undefined, /object/],
    [[], "body_invalid", undefined, /object/],
    ["name", "body_invalid", undefined, /object/],
  ])("[API-10] refuses %j with %s", (body, code, field, message) => {
    expect(() => validateBody(create, body)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message), details: field === undefined ? {} : { field } }),
    );
  });

  it("a token's name prefix may end with a hyphen", () => {
    expect(validateBody(ENDPOINTS.createToken.body, { name_prefix: "mcp-" })).toEqual({ name_prefix: "mcp-" });
    expect(() => validateBody(ENDPOINTS.createToken.body, { name_prefix: "MCP-" })).toThrow(
      expect.objectContaining({ code: "name_invalid" }),
    );
    expect(() => validateBody(ENDPOINTS.createToken.body, { name_prefix: "" })).toThrow(expect.objectContaining({ code: "name_invalid" }));
  });
});
