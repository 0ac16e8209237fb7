/** `sprite jobs` and `sprite exec --background` as a user runs them, on the simulated daemon with a real agent. */
import { waitFor } from "@sprited/base";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";
import { CliHome, collect } from "./cli-run.ts";

let target: SimulatedTarget;
let home: CliHome;

beforeAll(async () => {
  target = await openSimulated();
  home = await CliHome.make({ SPRITES_API_URL: target.baseUrl, SPRITE_TOKEN: target.token });
  expect((await home.run(["create", "dev", "--skip-console"])).code).toBe(0);
}, 60_000);
afterAll(async () => {
  await target[Symbol.asyncDispose]();
  await home.remove();
});

const sprite = (...args: string[]) => home.run(["-s", "dev", ...args]);

async function background(...args: string[]): Promise<string> {
  const { code, out, err } = await sprite("exec", "--background", ...args);
  expect([code, err]).toEqual([0, ""]);
  expect(out).toMatch(/^[0-9]+\n$/);
  return out.trim();
}

test("[CLI-70] [CLI-71] the id alone is printed; wait ends with the command's code, logs print its bytes", async () => {
  const id = await background("--", "sh", "-c", "echo out; sleep 0.1; echo err >&2; exit 3");
  expect(await sprite("jobs", "wait", id)).toMatchObject({ code: 3, out: "", err: "" });
  expect((await sprite("jobs", "logs", id)).out).toBe("out\nerr\n");
  expect((await sprite("jobs", "logs", "--stream", "stderr", id)).out).toBe("err\n");
  expect((await sprite("jobs", "list")).out).toMatch(new RegExp(`^ID +STATE +AGE +TOOK +OUTPUT +COMMAND\n${id}  exited 3 `));
  expect(JSON.parse((await sprite("jobs", "get", "--json", id)).out)).toMatchObject({ id, state: "exited", exit_code: 3 });
  expect((await sprite("jobs", "delete", id)).out).toBe(`deleted ${id}\n`);
  expect(await sprite("jobs", "get", id)).toMatchObject({ code: 1, err: expect.stringContaining(`no job ${id}`) });
});

test("[CLI-71] signals and time-outs have exit codes of their own", async () => {
  const killed = await background("--", "sleep", "50");
  expect((await sprite("jobs", "kill", "--signal", "SIGINT", killed)).out).toBe(`sent INT to ${killed}\n`);
  expect((await sprite("jobs", "wait", killed)).code).toBe(130);
  const late = await background("--timeout", "200ms", "--", "sleep", "50");
  expect(await sprite("jobs", "wait", late)).toMatchObject({ code: 124, err: expect.stringContaining("did not end within 0.2 s") });
  const running = await background("--", "sleep", "50");
  expect((await sprite("jobs", "wait", "--timeout", "100ms", running)).code).toBe(124);
  await sprite("jobs", "delete", running);
});

test("[CLI-72] [JOB-11] logs -f goes on at the right byte when the daemon is restarted", async () => {
  const id = await background("--", "sh", "-c", "for i in $(seq 1 50); do echo line $i; sleep 0.05; done");
  const follower = home.start(["-s", "dev", "jobs", "logs", "-f", id]);
  const result = collect(follower);
  await waitFor("output", { timeoutMs: 10_000 }, async () => (await sprite("jobs", "logs", id)).out.includes("line 5\n"));
  await target.restart();
  const { code, out, err } = await result;
  expect(out).toBe(Array.from({ length: 50 }, (_, index) => `line ${index + 1}\n`).join(""));
  expect(code).toBe(0);
  expect(err).toMatch(
    /^sprite: connection to dev lost; trying again for 5 min, Ctrl-C leaves\nsprite: connected to dev again after \d+ s\n$/,
  );
}, 40_000);

test("[CLI-70] input comes from a file or a pipe, and only when asked", async () => {
  const asked = await home.run(["-s", "dev", "exec", "--background", "--input", "-", "--", "cat"], { input: "piped" });
  const unasked = await home.run(["-s", "dev", "exec", "--background", "--", "cat"], { input: "piped" });
  await sprite("jobs", "wait", asked.out.trim());
  await sprite("jobs", "wait", unasked.out.trim());
  expect((await sprite("jobs", "logs", asked.out.trim())).out).toBe("piped");
  expect((await sprite("jobs", "logs", unasked.out.trim())).out).toBe("");
});

test("[CLI-70] [JOB-3] a key starts one job; flags of jobs need --background", async () => {
  const id = await background("--key", "k", "--", "true");
  expect(await background("--key", "k", "--", "true")).toBe(id);
  expect(await sprite("exec", "--background", "--key", "k", "--", "false")).toMatchObject({ code: 1, out: "" });
  expect(await sprite("exec", "--key", "k", "--", "true")).toMatchObject({
    code: 2,
    err: expect.stringContaining("--key is only for --background"),
  });
});

test("[CLI-73] sessions are listed and killed", async () => {
  const child = home.start(["-s", "dev", "exec", "--", "sleep", "50"]);
  const ended = collect(child);
  const [session] = await waitFor("the session", { timeoutMs: 10_000, everyMs: 100 }, async () => {
    const sessions = JSON.parse((await sprite("sessions", "ls", "--json")).out) as { id: string }[];
    return sessions.length > 0 && sessions;
  });
  expect((await sprite("sessions", "list")).out).toContain("sleep 50");
  expect((await sprite("s", "kill", String(session?.id))).out).toBe("sent TERM\nthe command ended\n");
  expect((await ended).code).toBe(143);
  child.stdin?.destroy();
});
