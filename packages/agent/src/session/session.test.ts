/** A session's signals, over a command in memory. */
import os from "node:os";
import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import type { ProcessTable } from "../spawn/process-table.ts";
import type { Command } from "../spawn/spawner.ts";
import { Session } from "./session.ts";

const { SIGQUIT, SIGTERM } = os.constants.signals;

test("[SESS-8] a signal that the launch ignores is sent when the command has begun, others at once", async () => {
  const sent: number[] = [];
  let isLaunching = true;
  const command: Command = {
    pid: 7,
    innerPid: 7,
    stdout: new PassThrough(),
    stderr: new PassThrough(),
    stdin: undefined,
    ended: new Promise(() => {}),
    ignoresYet: (signal) => isLaunching && signal === SIGQUIT,
    foregroundGroup: () => undefined,
    resize: () => {},
    killAll: () => {},
  };
  const processes = { kill: (_pid: number, signal: number) => void sent.push(signal) } as unknown as ProcessTable;
  const session = new Session("1", { argv: ["sleep", "100"], env: {}, dir: null, tty: null, stdin: false }, command, processes);
  session.signal("QUIT");
  session.signal("TERM");
  expect(sent).toEqual([SIGTERM]);
  isLaunching = false;
  await expect.poll(() => sent, { timeout: 10_000 }).toEqual([SIGTERM, SIGQUIT]);
});
