/** vim, htop and tmux in terminals: left, come back to, and used over a network that cuts. */
import { sleep, waitFor } from "@sprited/base";
import { afterAll, beforeAll, beforeEach, afterEach, describe, expect, test, vi } from "vitest";
import { TmuxPane } from "../e2e/cli-tmux.ts";
import type { CliHome } from "../e2e/cli-run.ts";
import { DEVELOPER_IMAGE, developerSkipReason, type Way, WAYS, Workshop } from "./workshop.ts";

vi.setConfig({ testTimeout: 600_000, hookTimeout: 900_000 });

const WAIT = { timeoutMs: 120_000, everyMs: 200 };

describe.skipIf(developerSkipReason() !== undefined)("full-screen programs", () => {
  let shop: Workshop;
  let panes: { pane: TmuxPane; home: CliHome }[] = [];
  let cutting: Disposable | undefined;

  beforeAll(async () => {
    shop = await Workshop.open(DEVELOPER_IMAGE);
    await shop.work("straight", "seq -f 'line %g of the file' 1 500 > file.txt");
  });
  afterAll(() => shop?.[Symbol.asyncDispose]());
  beforeEach(() => {
    panes = [];
    cutting = undefined;
  });
  afterEach(async () => {
    cutting?.[Symbol.dispose]();
    for (const { pane, home } of panes) {
      await pane.close();
      await home.remove();
    }
  });

  async function newPane(way: Way, args: string): Promise<TmuxPane> {
    const home = await shop.newHome(way);
    const pane = new TmuxPane(home);
    panes.push({ pane, home });
    await pane.start(args);
    return pane;
  }

  /** Waits for a picture; the screen as it is then. */
  async function until(pane: TmuxPane, what: string | RegExp): Promise<string> {
    let screen = "";
    const isThere = async (): Promise<boolean> => {
      screen = (await pane.screen()).join("\n");
      return typeof what === "string" ? screen.includes(what) : what.test(screen);
    };
    await waitFor(`${what} on the screen`, WAIT, isThere).catch((error: unknown) => {
      throw new Error(`not on the screen: ${what}\n${screen}`, { cause: error });
    });
    return screen;
  }

  /** Opens a program, leaves it, and comes back to it in another terminal. */
  async function leaveAndReturn(way: Way, pane: TmuxPane): Promise<TmuxPane> {
    await pane.keys("C-\\");
    await pane.ended();
    const id = /sprite attach -s \S+ (\d+)/.exec(await pane.raw())?.[1];
    expect(id, (await pane.screen()).join("\n")).toBeDefined();
    return newPane(way, `attach -s ${shop.name} ${id}`);
  }

  test.each(WAYS)("vim, %s: the picture and the file are right after leaving and coming back", async (way) => {
    const pane = await newPane(way, `exec --tty -s ${shop.name} -- vim -n -u NONE -N file.txt`);
    await until(pane, "line 23 of the file");
    if (way === "cut") cutting = shop.cutting();
    await pane.keys("-l", "100Gothe new line");
    await pane.keys("Escape");
    const before = await until(pane, /the new line\n(.*\n)*.*line 101 /);
    const again = await leaveAndReturn(way, pane);
    await until(again, "the new line");
    expect((await again.screen()).slice(0, 23)).toEqual(before.split("\n").slice(0, 23));
    await again.keys("-l", `:%s/line/LINE/g | w ${way}.txt | q!`);
    await again.keys("Enter");
    expect((await again.ended()).code).toBe(0);
    cutting?.[Symbol.dispose]();
    expect(await shop.work("straight", `sed -n '100,102p;$=' ${way}.txt`)).toBe(
      "LINE 100 of the file\nthe new LINE\nLINE 101 of the file\n501\n",
    );
  });

  test.each(WAYS)("htop, %s: it is drawn anew and goes on", async (way) => {
    const pane = await newPane(way, `exec --tty -s ${shop.name} -- htop -d 10`);
    await until(pane, "F10Quit");
    if (way === "cut") cutting = shop.cutting();
    const again = await leaveAndReturn(way, pane);
    const screen = await until(again, "F10Quit");
    expect(screen).toMatch(/PID\W+USER/);
    expect(screen).toMatch(/Uptime: /);
    expect(await again.modes()).toContain("alternate_on=1");
    const uptime = /Uptime: (\S+)/.exec(screen)?.[1];
    await waitFor("another second", WAIT, async () => /Uptime: (\S+)/.exec((await again.screen()).join("\n"))?.[1] !== uptime);
    await again.keys("q");
    expect(await again.ended()).toEqual({ code: 0, settingsKept: true });
  });

  test.each(WAYS)("tmux, %s: two panes are there after leaving and coming back, keys arrive once", async (way) => {
    const pane = await newPane(way, `exec --tty -s ${shop.name} -- tmux -f /dev/null -L ${way} new-session sh`);
    await until(pane, /\[0\] 0:sh/);
    if (way === "cut") cutting = shop.cutting();
    await pane.keys("-l", "PS1=left; seq 1 5");
    await pane.keys("Enter");
    await until(pane, /^5$/m);
    await pane.bytes("\x02%");
    await until(pane, "│");
    await pane.keys("-l", "echo $((40+2)) >>keys; cat keys");
    await pane.keys("Enter");
    await until(pane, /42\s*\n/);
    const before = await settled(pane);
    const again = await leaveAndReturn(way, pane);
    await until(again, "│");
    await expect.poll(() => settled(again), { timeout: WAIT.timeoutMs }).toEqual(before);
    await again.keys("-l", "rm keys; tmux kill-server");
    await again.keys("Enter");
    await again.ended();
  });
});

/** What tmux shows when nothing changes any more, without its last line, in which a clock goes on. */
async function settled(pane: TmuxPane): Promise<string[]> {
  let last: string[] = [];
  await waitFor("a steady picture", WAIT, async () => {
    const screen = (await pane.screen()).slice(0, 23);
    const isSame = screen.join("\n") === last.join("\n");
    last = screen;
    if (!isSame) await sleep(1_000);
    return isSame;
  });
  return last;
}
