import { describe, expect, it } from "vitest";
import { ignore } from "./ignore.ts";
import { run, RunError } from "./run.ts";

async function failure(work: Promise<unknown>): Promise<RunError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(RunError);
  return error as RunError;
}

describe("run", () => {
  it("returns both outputs and feeds the input", async () => {
    expect(await run("sh", ["-c", "cat; echo problem >&2"], { input: "hello\n" })).toEqual({ stdout: "hello\n", stderr: "problem\n" });
  });

  it("passes arguments as they are, never through a shell", async () => {
    expect((await run("printf", ["%s", "$(id); `id` | x"])).stdout).toBe("$(id); `id` | x");
  });

  it("gives the child a minimal environment", async () => {
    const before = process.env["SPRITED_TEST_LEAK"];
    process.env["SPRITED_TEST_LEAK"] = "secret";
    try {
      const { stdout } = await run("env", [], { env: { EXTRA: "1" } });
      expect(stdout).toContain("EXTRA=1");
      expect(stdout).not.toContain("secret");
    } finally {
      if (before === undefined) delete process.env["SPRITED_TEST_LEAK"];
    }
  });

  it("hands out lines of both streams as they come", async () => {
    const lines: string[] = [];
    await run("sh", ["-c", "echo one; echo two >&2; printf three"], { onLine: (line) => lines.push(line) });
    expect(lines.sort()).toEqual(["one", "three", "two"]);
  });

  it("fails with exit code and error output but without the arguments", async () => {
    const error = await failure(run("sh", ["-c", "echo went wrong >&2; exit 3", "top-secret"]));
    expect(error).toMatchObject({ program: "sh", exitCode: 3, stderr: "went wrong\n" });
    expect(error.message).toBe("sh exited with 3: went wrong");
    expect(error.message).not.toContain("top-secret");
  });

  it("says when a program is not there, was killed, or took too long", async () => {
    expect((await failure(run("no-such-program", []))).message).toContain("could not be started");
    expect((await failure(run("sh", ["-c", "kill -9 $$"]))).message).toContain("SIGKILL");
    expect((await failure(run("sleep", ["10"], { timeoutMs: 50 }))).message).toContain("longer than 50 ms");
  });

  it("ends the child and rejects with the signal's reason when aborted", async () => {
    const reason = new Error("no longer wanted");
    const controller = new AbortController();
    const running = run("sleep", ["10"], { signal: controller.signal });
    controller.abort(reason);
    await expect(running).rejects.toBe(reason);
  });
});

describe("ignore", () => {
  it("drops a rejection", async () => {
    expect(await Promise.reject(new Error("whatever")).catch(ignore("a test"))).toBeUndefined();
  });
});
