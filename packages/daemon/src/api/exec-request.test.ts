import { describe, expect, it } from "vitest";
import { execRequest } from "./exec-request.ts";

describe("execRequest", () => {
  it("has the defaults of the official API", () => {
    expect(execRequest({ cmd: ["ls", "-l"] })).toEqual({
      work: { kind: "command", argv: ["ls", "-l"], env: {}, dir: undefined, tty: undefined, stdin: false },
      runAfterDisconnectMs: 10_000,
    });
    expect(execRequest({ cmd: ["bash"], tty: true })).toEqual({
      work: { kind: "command", argv: ["bash"], env: {}, dir: undefined, tty: { cols: 80, rows: 24 }, stdin: true },
      runAfterDisconnectMs: undefined,
    });
  });

  it("takes path as the executable, also without cmd", () => {
    expect(execRequest({ cmd: ["sh", "-c", "x"], path: "/bin/sh" }).work.argv).toEqual(["/bin/sh", "-c", "x"]);
    expect(execRequest({ path: "bash" }).work.argv).toEqual(["bash"]);
  });

  it("[API-21] a run-on time of 0 is for ever", () => {
    expect(execRequest({ cmd: ["x"], max_run_after_disconnect: 0 }).runAfterDisconnectMs).toBeUndefined();
    expect(execRequest({ cmd: ["x"], tty: true, max_run_after_disconnect: 1500 }).runAfterDisconnectMs).toBe(1500);
  });

  it("a terminal of no size gets the usual one", () => {
    expect(execRequest({ cmd: ["x"], tty: true, rows: 0, cols: 0 }).work.tty).toEqual({ cols: 80, rows: 24 });
  });

  it("an empty variable is one, and the last of a name counts", () => {
    expect(execRequest({ cmd: ["x"], env: ["A=", "B=1=2", "B=3"] }).work.env).toEqual({ A: "", B: "3" });
    expect(execRequest({ cmd: ["x"], env: ["__proto__=1"] }).work.env).toHaveProperty("__proto__", "1");
  });

  it.each([
    [{}, "exec_no_command"],
    [{ cmd: [] }, "exec_no_command"],
    [{ cmd: [""] }, "exec_no_command"],
    [{ cmd: ["x"], env: ["A"] }, "exec_invalid"],
    [{ cmd: ["x"], env: ["=1"] }, "exec_invalid"],
    [{ cmd: ["x\0"] }, "exec_invalid"],
    [{ cmd: ["x"], dir: "/\0" }, "exec_invalid"],
    [{ cmd: ["x".repeat(200_000)] }, "exec_invalid"],
  ])("refuses %j", (query, code) => {
    expect(() => execRequest(query)).toThrow(expect.objectContaining({ code }));
  });
});
