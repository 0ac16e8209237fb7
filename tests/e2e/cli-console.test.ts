/**
 * `sprite console` in a real terminal (tmux): whatever the remote did to the terminal, every way
 * out leaves it as it was.
 */
import { waitFor } from "@sprited/base";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CliApi, type TerminalSession, TOKEN } from "./cli-api.ts";
import { CliHome } from "./cli-run.ts";
import { PLAIN_MODES, TmuxPane } from "./cli-tmux.ts";

const WAIT = { timeoutMs: 20_000, everyMs: 20 };

/** Everything a full-screen program switches on, all at once. */
const NASTY = [
  "\x1b[>1u", // kitty keys on the main screen
  "\x1b[?1049h\x1b[>5u\x1b[>4;2m", // alternate screen with its own kitty keys; modifyOtherKeys
  "\x1b[?1000h\x1b[?1002h\x1b[?1003h\x1b[?1006h\x1b[?1015h\x1b[?1004h\x1b[?2004h", // mouse, focus, paste
  "\x1b[?1h\x1b=\x1b[3;20r\x1b[?6h\x1b[?7l\x1b[4h", // keys, margins, origin, no wrap, insert
  "\x1b[2J\x1b[H\x1b[1;31;44;7m\x1b[5 q\x1b[?25lfull screen \x1b(0qqq\x0e\x1b]10;red\x07\x1b[?2026h",
].join("");

let api: CliApi;
let home: CliHome;
let pane: TmuxPane;

beforeEach(async () => {
  api = await CliApi.start();
  api.add("dev");
  home = await CliHome.make({ SPRITES_API_URL: api.url, SPRITE_TOKEN: TOKEN });
  pane = new TmuxPane(home);
});

afterEach(async () => {
  await pane.close();
  await api.kill();
  await home.remove();
});

/** The session that the console opened. */
async function session(): Promise<TerminalSession> {
  return waitFor("the session", WAIT, () => api.terminals[0]);
}

/** Starts a console whose program switches everything on, and waits until it has. */
async function startNasty(): Promise<TerminalSession> {
  api.program = (one) => one.send(NASTY);
  await pane.start("console -s dev", ["line one", "line two"]);
  const one = await session();
  await waitFor("the alternate screen", WAIT, async () => (await pane.modes()).includes("alternate_on=1"));
  expect(await pane.modes()).toBe(
    "alternate_on=1 mouse_any_flag=1 mouse_sgr_flag=1 cursor_flag=0 keypad_flag=1 keypad_cursor_flag=1 insert_flag=1 origin_flag=1 wrap_flag=0 scroll_region_upper=2 scroll_region_lower=19",
  );
  return one;
}

/** What must hold after any end of the console above. */
async function expectRestored(message: RegExp, code: number): Promise<void> {
  expect(await pane.ended()).toEqual({ code, settingsKept: true });
  expect(await pane.modes()).toBe(PLAIN_MODES);
  const [first, second, ...rest] = await pane.screen();
  expect([first, second]).toEqual(["line one", "line two"]);
  expect(rest.join("\n")).toMatch(message);
  const raw = await pane.raw();
  const after = raw.slice(raw.indexOf(NASTY.slice(-20)) + 20);
  for (const mode of [1000, 1002, 1003, 1006, 1015, 1004, 2004, 2026]) expect(after).toContain(`\x1b[?${mode}l`);
  for (const reset of ["\x1b[<1u", "\x1b[>4m", "\x1b[0 q", "\x1b]110\x1b\\"]) expect(after).toContain(reset);
  expect(after.match(/\x1b\[<1u/g)).toHaveLength(2); // oxlint-disable-line no-control-regex -- once for each screen
  expect(after.match(/\x1b\[\?1049l/g)).toHaveLength(1); // oxlint-disable-line no-control-regex -- a second one would move the cursor
}

describe("console restores the terminal", () => {
  test("[CLI-33] when the shell exits", async () => {
    const one = await startNasty();
    one.exit(0);
    await expectRestored(/^left dev$/, 0);
  });

  test("[CLI-33] when the shell exits with a code, which becomes the CLI's", async () => {
    const one = await startNasty();
    one.exit(3);
    await expectRestored(/^left dev \(exit code 3\)$/, 3);
  });

  test("[CLI-34] on Ctrl-\\, and says how to come back", async () => {
    const one = await startNasty();
    await pane.keys("C-\\");
    await expectRestored(new RegExp(`^detached from dev; reattach with sprite attach -s dev ${one.id}$`), 0);
    expect(one.input.includes(0x1c)).toBe(false);
  });

  test("[CLI-34] on Ctrl-\\ as kitty's keyboard protocol reports it", async () => {
    await startNasty();
    await pane.bytes("\x1b[92;5u");
    await expectRestored(/^detached from dev;/, 0);
  });

  test("[CLI-33] when the server is killed", async () => {
    await startNasty();
    await api.kill();
    await expectRestored(/^connection lost: The connection [^]* reattach with sprite attach -s dev 1$/, 1);
  });

  test.each([
    ["SIGTERM", 143],
    ["SIGHUP", 129],
    ["SIGQUIT", 131],
    ["SIGINT", 130],
  ] as const)("[CLI-33] on %s", async (signal, code) => {
    await startNasty();
    process.kill(await pane.pid(), signal);
    await expectRestored(new RegExp(`^left dev on ${signal}; reattach with sprite attach`), code);
  });

  test("[CLI-33] on an uncaught error of the CLI itself", async () => {
    home.env["NODE_OPTIONS"] = "--import=data:text/javascript,process.on('SIGUSR2',()=>{throw(new(Error)('boom'))})";
    await startNasty();
    process.kill(await pane.pid(), "SIGUSR2");
    await expectRestored(/^error: unexpected Error: boom\n/, 1);
  });

  test("[CLI-38] when the output breaks off in the middle of a sequence", async () => {
    api.program = (one) => one.send("text\x1b[?1049h\x1b]2;half a ti");
    await pane.start("console -s dev", ["line one"]);
    await session();
    await waitFor("the alternate screen", WAIT, async () => (await pane.modes()).includes("alternate_on=1"));
    await api.kill();
    expect(await pane.ended()).toEqual({ code: 1, settingsKept: true });
    expect(await pane.modes()).toBe(PLAIN_MODES);
    const screen = await pane.screen();
    expect(screen.slice(0, 2)).toEqual(["line one", "text"]);
    expect(screen[2]).toMatch(/^connection lost:/);
  });

  test("[CLI-36] reports that the terminal had already sent do not reach the shell", async () => {
    api.program = (one) => {
      one.send(`${NASTY}\x1b[c\x1b[6n`); // two questions that the terminal answers after the session has ended
      one.exit(0);
    };
    await pane.start("console -s dev");
    expect(await pane.ended()).toEqual({ code: 0, settingsKept: true });
    expect(await pane.leftover()).toBe("");
  });
});

describe("console", () => {
  test("[CLI-32] leaves a screen alone that the remote left in order", async () => {
    api.program = (one) => {
      one.send("\x1b[?2004h$ \x1b[32mgreen\x1b[m\r\n\x1b[?2004l");
      one.exit(0);
    };
    await pane.start("console -s dev", ["line one"]);
    expect(await pane.ended()).toEqual({ code: 0, settingsKept: true });
    expect(await pane.screen()).toEqual(["line one", "$ green", "left dev"]);
    const raw = await pane.raw();
    expect(raw.slice(raw.lastIndexOf("\x1b[?2004l") + 8)).toMatch(/^\x1b\[0m\x1b\[\?25h/); // oxlint-disable-line no-control-regex -- the two harmless resets
  });

  test("[CLI-35] exec --tty says nothing at the end and leaves the cursor where the command left it", async () => {
    api.program = (one) => {
      one.send("no newline");
      one.exit(0);
    };
    await pane.start("exec -s dev --tty -- printf 'no newline'; echo ', next'");
    expect(await pane.ended()).toEqual({ code: 0, settingsKept: true });
    expect(await pane.screen()).toEqual(["no newline, next"]);
  });

  test("[CLI-31] shows bare line feeds as the remote meant them", async () => {
    api.program = (one) => {
      one.send("ab\ncd\r\nef\r\n");
      one.exit(0);
    };
    await pane.start("console -s dev");
    await pane.ended();
    expect((await pane.screen()).slice(0, 3)).toEqual(["ab", "  cd", "ef"]);
  });

  test("[CLI-31] sends every key, also those that would interrupt or stop", async () => {
    await pane.start("console -s dev");
    const one = await session();
    await pane.waitForScreen("$");
    await pane.keys("C-c", "C-z", "C-s", "C-q", "C-d", "C-m", "x");
    await waitFor("the keys", WAIT, () => one.input.length >= 7);
    expect(one.input.toString("latin1")).toBe("\x03\x1a\x13\x11\x04\rx");
    one.exit(0);
    expect(await pane.ended()).toEqual({ code: 0, settingsKept: true });
  });

  test("[CLI-37] the remote terminal has the size of ours, also when it changes", async () => {
    await pane.start("console -s dev");
    const one = await session();
    expect(one.size).toEqual({ cols: 80, rows: 24 });
    await pane.resize(100, 30);
    await waitFor("the new size", WAIT, () => one.resizes.some(({ cols, rows }) => cols === 100 && rows === 30));
  });

  test("[CLI-39] attach goes back to the session that was left", async () => {
    await pane.start("console -s dev");
    const one = await session();
    await pane.waitForScreen("$");
    await pane.keys("C-\\");
    await pane.ended();
    const elsewhere = await CliHome.make({ SPRITES_API_URL: api.url, SPRITE_TOKEN: TOKEN });
    const second = new TmuxPane(elsewhere);
    try {
      api.program = (again) => again.send(`again ${again.id}\r\n`);
      await second.start("attach -s dev");
      await second.waitForScreen(`again ${one.id}`);
    } finally {
      await second.close();
      await elsewhere.remove();
    }
  });

  test("[CLI-14] create opens a console", async () => {
    api.program = (one) => one.send("welcome\r\n$ ");
    await pane.start("create fresh");
    await pane.waitForScreen("welcome");
    expect((await pane.screen())[0]).toMatch(/^created fresh in \d+\.\d+ s$/);
  });

  test("[CLI-15] destroy asks on a terminal", async () => {
    await pane.start("destroy dev");
    await pane.waitForScreen("Destroy dev of default and everything on it? [y/N]");
    await pane.keys("n", "Enter");
    expect(await pane.ended()).toEqual({ code: 1, settingsKept: true });
    expect(api.sprites.has("dev")).toBe(true);
  });

  test("[CLI-7] login asks for the token without showing it", async () => {
    home.env["SPRITE_TOKEN"] = "";
    await pane.start("login");
    await pane.waitForScreen("Token for");
    await pane.keys("-l", `${TOKEN}x`);
    await pane.keys("BSpace", "Enter");
    expect(await pane.ended()).toEqual({ code: 0, settingsKept: true });
    expect(await pane.screen()).toEqual([`Token for ${api.url}:`, `logged in to ${api.url} as organization default`]);
  });
});
