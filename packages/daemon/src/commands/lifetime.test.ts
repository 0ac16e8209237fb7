import { spawn } from "node:child_process";
import path from "node:path";
import { describe, expect, it } from "vitest";

const LIFETIME = JSON.stringify(path.join(import.meta.dirname, "lifetime.ts"));
const NODE = [process.execPath, "--disable-warning=ExperimentalWarning", "--input-type=module", "-e"] as const;

/** A program that lives until its lifetime ends, then says why. */
function start(options: string, more = "") {
  const script = `import { openLifetime } from ${LIFETIME};
    using lifetime = openLifetime(${options});
    const alive = setInterval(() => {}, 1000);
    console.log("ready");
    const reason = await lifetime.stopped;
    clearInterval(alive);
    console.log(reason.why, lifetime.signal.aborted, reason.exitCode);
    ${more}`;
  const child = spawn(NODE[0], [...NODE.slice(1), script], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk) => (output += String(chunk)));
  const ready = new Promise<void>((resolve) => child.stdout.once("data", () => resolve()));
  const ended = new Promise<{ code: number | null; output: string }>((resolve) => child.once("close", (code) => resolve({ code, output })));
  return { child, ready, ended };
}

describe("openLifetime", () => {
  it.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("ends with %s", async (signal) => {
    const { child, ready, ended } = start("{}");
    await ready;
    child.kill(signal);
    expect(await ended).toEqual({ code: 0, output: `ready\n${signal} true 0\n` });
  });

  it("ends at once with a second Ctrl-C while it stops", async () => {
    const { child, ready, ended } = start("{}", "await new Promise((resolve) => setTimeout(resolve, 60_000));");
    await ready;
    child.kill("SIGINT");
    await new Promise((resolve) => child.stdout.once("data", resolve));
    child.kill("SIGINT");
    expect((await ended).code).toBe(130);
  });

  it("ends when the process that started it is killed", async () => {
    const starter = spawn("sleep", ["60"], { stdio: "ignore" });
    const { ready, ended } = start(`{ starterPid: ${starter.pid} }`);
    await ready;
    starter.kill("SIGKILL");
    expect((await ended).output).toContain("the program that started it has ended");
  });
});
