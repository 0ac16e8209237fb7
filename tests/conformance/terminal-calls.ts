/** Terminals and sessions through the official client: size, keys, detach, attach, list, kill. */
import type { Sprite } from "@fly/sprites";
import { waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ask } from "../kit/http.ts";
import { finished, spawned, spawnToEnd, type SpriteCommand, watchOutput } from "../kit/sdk-command.ts";
import { sdkOf, type Target, uniqueName } from "../kit/target.ts";
import { apiErrorOf } from "./sprite-calls.ts";

const DEADLINE = { timeoutMs: 60_000, everyMs: 20 };

/** Leaves a command as a lost client does: the socket closes, the command is not told. */
function leave(command: SpriteCommand): void {
  (command as unknown as { wsCmd: { close(): void } }).wsCmd.close();
}

/** The session id that `command` was told; terminals only. */
function sessionIdOf(command: SpriteCommand): Promise<string> {
  return new Promise((resolve) => {
    command.on("message", (message: { type?: string; session_id?: unknown }) => {
      if (message.type === "session_info") resolve(message.session_id as string);
    });
  });
}

export function terminalCalls(target: () => Target): void {
  let sprite: Sprite;
  beforeAll(async () => {
    sprite = await sdkOf(target()).createSprite(uniqueName("terminal"));
  });
  afterAll(async () => {
    await sprite?.delete();
  });

  describe("terminal", () => {
    test("typed text is echoed, the shell ends with its code", async () => {
      const command = sprite.spawn("sh", [], { tty: true, env: { PS1: "prompt> " } });
      const end = finished(command);
      const output = watchOutput(command);
      await waitFor("the prompt", DEADLINE, () => output.stdout().includes("prompt> "));
      command.stdin.write("echo ty''ped\r");
      await waitFor("the output", DEADLINE, () => output.stdout().includes("typed\r\n"));
      expect(output.stdout()).toContain("echo ty''ped");
      command.stdin.write("exit 0\r");
      expect((await end).code).toBe(0);
    });

    test("a failing terminal command is not a success", async () => {
      expect((await spawnToEnd(sprite, ["sh", "-c", "exit 3"], { tty: true })).code).toBe(1); // all this client can tell
    });

    test("the exit message carries the exact code", async () => {
      const command = sprite.spawn("sh", ["-c", "exit 3"], { tty: true });
      const messages: Record<string, unknown>[] = [];
      command.on("message", (message: Record<string, unknown>) => messages.push(message));
      await finished(command);
      expect(messages.at(-1)).toMatchObject({ type: "exit", exit_code: 3, code: 3 });
    });

    test("resize reaches the program", async () => {
      const script = 'stty size; trap "stty size; exit 0" WINCH; echo ready; while :; do sleep 0.05; done';
      const command = sprite.spawn("sh", ["-c", script], { tty: true, rows: 30, cols: 100 });
      const end = finished(command);
      const output = watchOutput(command);
      await waitFor("the trap", DEADLINE, () => output.stdout().includes("ready"));
      command.resize(120, 40);
      expect((await end).stdout.toString().replaceAll("\r\n", "\n")).toBe("30 100\nready\n40 120\n");
    });

    test("Ctrl-C interrupts the foreground command, not the shell", async () => {
      const command = sprite.spawn("sh", [], { tty: true, env: { PS1: "$ " } });
      const end = finished(command);
      const output = watchOutput(command);
      await spawned(command);
      command.stdin.write("sleep 100\r");
      await waitFor("the echo", DEADLINE, () => output.stdout().includes("sleep 100"));
      await waitFor("sleep in the foreground", DEADLINE, async () => {
        const listing = await sprite.execFile("sh", ["-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"]);
        return (listing.stdout as string).includes("sleep 100 ");
      });
      command.stdin.write("\x03");
      command.stdin.write("echo still-''here\r");
      await waitFor("the shell's answer", DEADLINE, () => output.stdout().includes("still-here"));
      command.stdin.write("exit 0\r");
      expect((await end).code).toBe(0);
    });

    test("TERM comes from the client", async () => {
      const result = await spawnToEnd(sprite, ["sh", "-c", "echo $TERM"], { tty: true, env: { TERM: "xterm-kitty" } });
      expect(result.stdout.toString()).toBe("xterm-kitty\r\n");
    });
  });

  describe("sessions", () => {
    test("a running command is listed with a string id, an ended one is not", async () => {
      const command = sprite.spawn("sleep", ["60"], { cwd: "/tmp" });
      const end = finished(command);
      await spawned(command);
      const sessions = await sprite.listSessions();
      const found = sessions.find((session) => session.command.includes("sleep") && session.command.includes("60"));
      expect(found).toMatchObject({ id: expect.stringMatching(/^[0-9]+$/), workdir: "/tmp", tty: false, isActive: true });
      expect(Math.abs((found?.created.getTime() ?? 0) - Date.now())).toBeLessThan(120_000);
      command.kill();
      await end;
      await waitFor("the session's end", DEADLINE, async () => !(await sprite.listSessions()).some(({ id }) => id === found?.id));
    });

    test("a terminal survives its client, and attach brings scrollback and live output", async () => {
      const first = sprite.createSession("sh", ["-c", 'echo early; read line; echo "got $line"; read more; exit 0']);
      const id = sessionIdOf(first);
      const output = watchOutput(first);
      await waitFor("early output", DEADLINE, () => output.stdout().includes("early"));
      leave(first);
      await finishedOrLeft(first);
      const second = sprite.attachSession(await id);
      const end = finished(second);
      const again = watchOutput(second);
      await spawned(second);
      second.stdin.write("typed\r");
      await waitFor("live output", DEADLINE, () => again.stdout().includes("got typed"));
      second.stdin.write("\r");
      expect((await end).code).toBe(0);
    });

    test("two clients see the same terminal", async () => {
      const first = sprite.createSession("cat");
      const firstEnd = finished(first);
      const firstOutput = watchOutput(first);
      const id = await sessionIdOf(first);
      const second = sprite.attachSession(id);
      const secondEnd = finished(second);
      const secondOutput = watchOutput(second);
      await spawned(second);
      second.stdin.write("shared\r");
      await waitFor(
        "both outputs",
        DEADLINE,
        () => firstOutput.stdout().includes("shared\r\nshared") && secondOutput.stdout().includes("shared"),
      );
      first.stdin.write("\x04");
      expect((await firstEnd).code).toBe(0);
      expect((await secondEnd).code).toBe(0);
    });

    test("maxRunAfterDisconnect ends a command that was left, in time", async () => {
      const file = `/tmp/${uniqueName("left")}`;
      const command = sprite.spawn("sh", ["-c", `echo up; sleep 4; touch ${file}`], { maxRunAfterDisconnect: "1s" });
      const output = watchOutput(command);
      await waitFor("the command", DEADLINE, () => output.stdout().includes("up"));
      leave(command);
      await waitFor(
        "the session's end",
        { timeoutMs: 20_000, everyMs: 100 },
        async () => !(await sprite.listSessions()).some((session) => session.command.includes(file)),
      );
      expect((await spawnToEnd(sprite, ["ls", file])).code).not.toBe(0);
    });

    test("a command that was left runs on while it may", async () => {
      const file = `/tmp/${uniqueName("runs-on")}`;
      const command = sprite.spawn("sh", ["-c", `echo up; sleep 2; touch ${file}`], { maxRunAfterDisconnect: "30s" });
      const output = watchOutput(command);
      await waitFor("the command", DEADLINE, () => output.stdout().includes("up"));
      leave(command);
      await waitFor("the file", DEADLINE, async () => (await spawnToEnd(sprite, ["ls", file])).code === 0);
      await sprite.execFile("rm", [file]);
    });

    test("killSession streams what happened; a second one is 410", async () => {
      const command = sprite.createSession("sleep", ["100"]);
      const end = finished(command);
      const id = await sessionIdOf(command);
      const events: { type: string; exitCode?: number | undefined }[] = [];
      for await (const event of await sprite.killSession(id, "TERM", "5s")) events.push(event);
      expect(events[0]).toMatchObject({ type: "signal" });
      expect(events.at(-1)).toMatchObject({ type: "complete", exitCode: 143 });
      expect((await end).code).toBe(1);
      expect((await apiErrorOf(sprite.killSession(id))).statusCode).toBe(410);
    });

    test("killSession escalates to KILL after its timeout", async () => {
      const command = sprite.createSession("sh", ["-c", 'trap "" TERM; echo armed; while :; do sleep 0.05; done']);
      const end = finished(command);
      const output = watchOutput(command);
      const id = await sessionIdOf(command);
      await waitFor("the trap", DEADLINE, () => output.stdout().includes("armed"));
      const types: string[] = [];
      for await (const event of await sprite.killSession(id, "SIGTERM", "1s")) types.push(event.type);
      expect(types).toEqual(expect.arrayContaining(["signal", "timeout", "killed", "complete"]));
      await end;
    });

    test("a kill with timeout=0s only signals (Go) and takes a JSON body (Python)", async () => {
      for (const question of [{ path: "?signal=TERM&timeout=0s" }, { path: "", json: { signal: "SIGTERM", timeout: 5 } }]) {
        const command = sprite.createSession("sleep", ["100"]);
        const end = finished(command);
        const id = await sessionIdOf(command);
        const answer = await ask(target(), `/v1/sprites/${sprite.name}/exec/${id}/kill${question.path}`, {
          method: "POST",
          json: question.json,
        });
        expect(answer.status).toBe(200);
        expect(answer.headers["content-type"]).toContain("application/x-ndjson");
        expect((await end).code).toBe(1);
      }
    });

    test("killing or attaching to what is not there is a 404 with a body", async () => {
      expect(await apiErrorOf(sprite.killSession("999999"))).toMatchObject({ statusCode: 404, errorCode: "session_not_found" });
      const command = sprite.attachSession("999999");
      await expect(spawned(command)).rejects.toThrow();
    });
  });
}

/** A command whose client left has no exit; its socket's end is enough. */
async function finishedOrLeft(command: SpriteCommand): Promise<void> {
  await new Promise<void>((resolve) => {
    command.on("exit", () => resolve());
  });
}
