/** A real terminal for tests: a tmux server of its own with one pane. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { waitFor } from "@sprited/base";
import { type CliHome, SPRITE } from "./cli-run.ts";

const run = promisify(execFile);
const WAIT = { timeoutMs: 20_000, everyMs: 30 };

/** What tmux knows about the modes of a pane. */
const MODE_FIELDS = [
  "alternate_on",
  "mouse_any_flag",
  "mouse_sgr_flag",
  "cursor_flag",
  "keypad_flag",
  "keypad_cursor_flag",
  "insert_flag",
  "origin_flag",
  "wrap_flag",
  "scroll_region_upper",
  "scroll_region_lower",
] as const;

/** A pane at a shell prompt, 80×24. */
export const PLAIN_MODES =
  "alternate_on=0 mouse_any_flag=0 mouse_sgr_flag=0 cursor_flag=1 keypad_flag=0 keypad_cursor_flag=0 insert_flag=0 origin_flag=0 wrap_flag=1 scroll_region_upper=0 scroll_region_lower=23";

export class TmuxPane {
  readonly #home: CliHome;
  readonly #socket: string;

  constructor(home: CliHome) {
    this.#home = home;
    this.#socket = path.join(home.dir, "tmux.sock");
  }

  /**
   * Runs `sprite` with `args` in the pane, between two looks at the terminal's settings. Lines of
   * `before` are on the screen when it starts; the pane stays when it has ended.
   */
  async start(args: string, before: readonly string[] = []): Promise<void> {
    const file = (name: string): string => path.join(this.#home.dir, name);
    const script = [
      "stty -echoctl", // a setting that no program would choose by itself
      ...before.map((line) => `echo '${line}'`),
      `stty -g >'${file("before")}'`,
      `sh -c 'echo $$ >"${file("pid")}"; exec "${SPRITE}" "$@"' sh ${args}`,
      `echo $? >'${file("code.new")}'; stty -g >'${file("after")}'; stty -icanon min 0 time 2; cat >'${file("leftover")}'; mv '${file("code.new")}' '${file("code")}'`,
      "exec sleep 600",
    ];
    await writeFile(file("script"), script.join("\n"));
    await this.#tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh", file("script"));
    await this.#tmux("pipe-pane", "-o", `cat >>'${file("raw")}'`);
  }

  /** Types keys as tmux names them. */
  async keys(...keys: string[]): Promise<void> {
    await this.#tmux("send-keys", ...keys);
  }

  /** Types raw bytes. */
  async bytes(text: string): Promise<void> {
    await this.#tmux("send-keys", "-H", ...(Buffer.from(text, "latin1").toString("hex").match(/../g) ?? []));
  }

  async resize(cols: number, rows: number): Promise<void> {
    await this.#tmux("resize-window", "-x", String(cols), "-y", String(rows));
  }

  async modes(): Promise<string> {
    return this.#tmux("display-message", "-p", MODE_FIELDS.map((field) => `${field}=#{${field}}`).join(" "));
  }

  /** Lines on the screen, without empty ones at the end. */
  async screen(): Promise<string[]> {
    return (await this.#tmux("capture-pane", "-p")).trimEnd().split("\n");
  }

  /** The screen with attributes as escape sequences. */
  async painted(): Promise<string> {
    return this.#tmux("capture-pane", "-p", "-e");
  }

  /** Everything written to the terminal since the pane began. */
  async raw(): Promise<string> {
    return readFile(path.join(this.#home.dir, "raw"), "latin1").catch(() => "");
  }

  async waitForScreen(text: string): Promise<void> {
    await waitFor(`${JSON.stringify(text)} on the screen`, WAIT, async () => (await this.screen()).join("\n").includes(text));
  }

  async pid(): Promise<number> {
    return Number(await readFile(path.join(this.#home.dir, "pid"), "utf8"));
  }

  /** What the terminal had sent, or the user typed, and the command left unread. */
  async leftover(): Promise<string> {
    return readFile(path.join(this.#home.dir, "leftover"), "latin1");
  }

  /** Waits for the end of the command; its exit code and whether the settings are what they were. */
  async ended(): Promise<{ code: number; settingsKept: boolean }> {
    const read = (name: string): Promise<string | undefined> => readFile(path.join(this.#home.dir, name), "utf8").catch(() => undefined);
    const code = await waitFor("the end of the command", WAIT, () => read("code"));
    return { code: Number(code), settingsKept: (await read("before")) === (await read("after")) };
  }

  async close(): Promise<void> {
    const pid = await this.pid().catch(() => 0); // never started
    await this.#tmux("kill-server").catch(() => {}); // as above, or already gone
    if (pid > 0) await waitFor("the end of the command", WAIT, () => !existsSync(`/proc/${pid}`));
  }

  async #tmux(...args: string[]): Promise<string> {
    const env = { ...this.#home.env, TERM: "xterm-256color", LANG: "C.UTF-8", SHELL: "/bin/sh" };
    const { stdout } = await run("tmux", ["-S", this.#socket, ...args], { env, timeout: 10_000 });
    return stdout.trimEnd();
  }
}
