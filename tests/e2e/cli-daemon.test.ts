/** The `sprite` command against the whole daemon with simulated machines: what the two promise each other. */
import { waitFor } from "@sprited/base";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";
import { CliHome } from "./cli-run.ts";
import { PLAIN_MODES, TmuxPane } from "./cli-tmux.ts";

const WAIT = { timeoutMs: 30_000, everyMs: 50 };

let daemon: SimulatedTarget;
let home: CliHome;

beforeAll(async () => {
  daemon = await openSimulated();
});
afterAll(() => daemon[Symbol.asyncDispose]());
beforeEach(async () => {
  home = await CliHome.make({ SPRITES_API_URL: daemon.baseUrl, SPRITED_HOME: daemon.layout.root });
});
afterEach(() => home.remove());

describe("sprite and sprited", () => {
  test("[CLI-3][CLI-14] without a login: create, list, info, use, destroy", async () => {
    expect(await home.run(["create", "first", "--label", "ci", "--cpus", "1", "--image", "minimal"])).toMatchObject({ code: 0, err: "" });
    expect((await home.run(["list"])).out).toMatch(/^first +running +\d+s +ci +http/m);
    expect((await home.run(["use", "first"])).code).toBe(0);
    expect((await home.run(["info"])).out).toMatch(/^image +minimal$/m);
    expect((await home.run(["create", "first"])).err).toMatch(/^error: .*exists already\.\nChoose another name/);
    expect((await home.run(["create", "No_Such"])).err).toMatch(/^error: .*\n/);
    expect(await home.run(["destroy", "--force"])).toMatchObject({ code: 0, out: "destroyed first\n" });
    expect((await home.run(["info"])).err).toContain("the file .sprite here names");
  });

  test("[CLI-7] login with the server's token", async () => {
    const env = { SPRITED_HOME: home.dir };
    expect(await home.run(["login", daemon.baseUrl], { env, input: daemon.token })).toMatchObject({ code: 0 });
    expect((await home.run(["list", "-o", daemon.organization], { env: { ...env, SPRITES_API_URL: "" } })).code).toBe(0);
    expect((await home.run(["list"], { env: { SPRITE_TOKEN: "bad" } })).err).toMatch(/\nLog in again/);
  });

  test.each([[[]], [["--http-post"]]])("[CLI-21][CLI-22][CLI-23] exec %j", async (flags) => {
    await home.run(["create", `exec${flags.length}`]);
    const exec = (args: string[], input?: Uint8Array | string): ReturnType<CliHome["run"]> =>
      home.run(["exec", "-s", `exec${flags.length}`, ...flags, ...args], input === undefined ? {} : { input });
    const bytes = Buffer.from(Array.from({ length: 500_000 }, (_, index) => (index * 31) & 0xff));
    expect((await exec(["cat"], bytes)).stdout.equals(bytes)).toBe(true);
    expect(await exec(["--env", "A=1", "--dir", "/tmp", "--", "sh", "-c", "echo $A; pwd >&2; exit 5"])).toMatchObject({
      code: 5,
      out: "1\n",
      err: "/tmp\n",
    });
    expect((await exec(["sh", "-c", "kill -9 $$"])).code).toBe(137);
    expect((await exec(["no-such-command"])).code).toBe(127);
    expect((await exec(["/etc/passwd"])).code).toBe(126);
  });

  test("[HTTP-9] --http-post gets real frames from our server and says so with --verbose only", async () => {
    await home.run(["create", "post"]);
    const exec = (...args: string[]) =>
      home.run(["exec", "-s", "post", "--http-post", ...args, "--", "sh", "-c", "cat; echo e >&2; exit 3"], { input: "in" });
    expect(await exec()).toMatchObject({ code: 3, out: "in", err: "e\n" });
    expect((await exec("--verbose")).err).toMatch(/^sprite: the server answers in frames\nsprite: session \d+\ne\n$/);
  });

  test("[CLI-24] Ctrl-C ends the command with 130", async () => {
    await home.run(["create", "interrupt"]);
    const child = home.start(["exec", "-s", "interrupt", "--", "sh", "-c", "echo ready; exec sleep 60"]);
    child.stdout?.on("data", (data: Buffer) => data.includes("ready") && child.kill("SIGINT"));
    const code = await new Promise((resolve) => child.on("close", resolve));
    expect(code).toBe(130);
  });

  test("[CLI-13] a live list shows what others do", async () => {
    const child = home.start(["list", "-w", "--prefix", "live"]);
    let seen = "";
    child.stdout?.on("data", (data: Buffer) => (seen += data.toString()));
    await home.run(["create", "live-1"]);
    await waitFor("it to run", WAIT, () => seen.includes("live-1 running"));
    await home.run(["destroy", "live-1", "--force"]);
    await waitFor("its end", WAIT, () => seen.includes("live-1 destroyed"));
    child.kill();
  });

  test("[CLI-30][CLI-33][CLI-39] a real shell: console, detach, attach, exit", async () => {
    await home.run(["create", "shell"]);
    const pane = new TmuxPane(home);
    try {
      await pane.start("console -s shell", ["line one"]);
      await pane.keys("-l", "tty; stty size; echo $((40+2)) $TERM");
      await pane.keys("Enter");
      await pane.waitForScreen("24 80");
      await pane.waitForScreen("42 ");
      await pane.keys("-l", "printf '\\033[?1049h\\033[?1003h\\033[?25l'; read x");
      await pane.keys("Enter");
      await waitFor("the alternate screen", WAIT, async () => (await pane.modes()).startsWith("alternate_on=1 mouse_any_flag=1"));
      await pane.keys("C-\\");
      expect(await pane.ended()).toEqual({ code: 0, settingsKept: true });
      expect(await pane.modes()).toBe(PLAIN_MODES);
      expect((await pane.screen()).join("\n")).toMatch(/^line one\n[^]*detached from shell; reattach with sprite attach -s shell \d+$/);
    } finally {
      await pane.close();
    }
    const second = await CliHome.make(home.env);
    const again = new TmuxPane(second);
    try {
      await again.start("attach -s shell");
      await again.keys("Enter");
      await again.keys("-l", "echo back-$((1+1)); exit 6");
      await again.keys("Enter");
      expect(await again.ended()).toEqual({ code: 6, settingsKept: true });
      expect((await again.screen()).join("\n")).toMatch(/left shell \(exit code 6\)$/);
    } finally {
      await again.close();
      await second.remove();
    }
  });
});
