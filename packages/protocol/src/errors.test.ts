import { describe, expect, it } from "vitest";
import { ApiError, ERRORS, isErrorCode } from "./errors.ts";

describe("ApiError", () => {
  it("[API-2] is {error, message, details} on the wire, with the status of its code", () => {
    const error = new ApiError("sprite_name_taken", "the name is taken", { details: { field: "name" } });
    expect(error.status).toBe(409);
    expect(error.toBody()).toEqual({ error: "sprite_name_taken", message: "the name is taken", field: "name" });
    expect(error.retryAfterSeconds).toBeUndefined();
  });

  it("[API-2] proposes a pause where waiting helps, as whole seconds", () => {
    const error = new ApiError("busy", "too many", { details: { retry_after_seconds: 1.2, limit: 3.5 } });
    expect(error.retryAfterSeconds).toBe(2);
    expect(error.toBody()).toMatchObject({ retry_after_seconds: 2, limit: 4 });
    expect(new ApiError("vm_failed_to_start", "no").toBody().retry_after_seconds).toBeGreaterThan(0);
  });

  it("[API-3] never shows its cause", () => {
    const error = new ApiError("internal", "a fault", { cause: new Error("password is hunter2") });
    expect(JSON.stringify(error.toBody())).not.toContain("hunter2");
    expect((error.cause as Error).message).toContain("hunter2");
  });

  it("details never replace code and message", () => {
    const body = new ApiError("internal", "a fault", { details: { error: "x", message: "y" } }).toBody();
    expect(body).toMatchObject({ error: "internal", message: "a fault" });
  });

  it("is recognised by brand, not by class", () => {
    const foreign = { [Symbol.for("sprited.ApiError")]: true, code: "busy" };
    expect(ApiError.is(foreign)).toBe(true);
    expect(ApiError.is(new ApiError("busy", "x"))).toBe(true);
    for (const other of [undefined, null, "busy", new Error("busy"), {}]) expect(ApiError.is(other)).toBe(false);
  });

  it("survives the way over the wire", () => {
    const sent = new ApiError("disk_full", "no room", { details: { limit: 5, field: "config.storage_gb" } });
    const got = ApiError.fromAnswer(sent.status, JSON.stringify(sent.toBody()));
    expect(got.code).toBe("disk_full");
    expect(got.message).toBe("no room");
    expect(got.details).toMatchObject({ limit: 5, field: "config.storage_gb" });
  });

  it("makes an error of answers that are not ours", () => {
    expect(ApiError.fromAnswer(404, '{"error":"sprite not found"}')).toMatchObject({ code: "not_found", message: "sprite not found" });
    expect(ApiError.fromAnswer(502, "<html>Bad Gateway</html>")).toMatchObject({ code: "internal", message: "<html>Bad Gateway</html>" });
    expect(ApiError.fromAnswer(401, "")).toMatchObject({ code: "unauthorized", message: "the server answered 401" });
    expect(ApiError.fromAnswer(500, "[1]").message).toBe("[1]");
  });
});

describe("the registry", () => {
  it("has statuses of errors and hints that are sentences", () => {
    for (const [code, entry] of Object.entries(ERRORS)) {
      expect(entry.status, code).toBeGreaterThanOrEqual(400);
      expect(entry.hint, code).toMatch(/^[A-Z`].*\.$/);
    }
  });

  it("knows its own codes only", () => {
    expect(isErrorCode("internal")).toBe(true);
    for (const other of ["toString", "__proto__", "", 5, undefined]) expect(isErrorCode(other)).toBe(false);
  });
});
