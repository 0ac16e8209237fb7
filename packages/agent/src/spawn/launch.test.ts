/** What is executed for a command line; the script itself is tried by bare.test.ts with real processes. */
import { describe, expect, test } from "vitest";
import { BUSYBOX_SHELL, LaunchError, planLaunch } from "./launch.ts";
import type { User } from "./user.ts";

const user: User = {
  name: "sprite",
  uid: 1001,
  gid: 1001,
  groups: [1001],
  home: "/home/sprite",
  shell: "/bin/bash",
  variables: { LANG: "de_DE.UTF-8", A: "image" },
};
const plan = (start: Partial<Parameters<typeof planLaunch>[0]["start"]>, terminal?: string) =>
  planLaunch({
    start: { argv: ["true"], env: {}, dir: null, tty: null, stdin: false, ...start },
    user,
    environment: { A: "sprite", B: "sprite" },
    terminal,
    shell: BUSYBOX_SHELL,
  });

describe("planLaunch", () => {
  test("[SESS-7] variables add up: defaults, the image's, the sprite's, the command's", () => {
    const { env } = plan({ env: { B: "command", HOME: "/elsewhere" } });
    expect(env).toEqual(
      expect.arrayContaining(["HOME=/elsewhere", "USER=sprite", "A=sprite", "B=command", "LANG=de_DE.UTF-8", "SHELL=/bin/bash"]),
    );
    expect(env.find((word) => word.startsWith("TERM="))).toBeUndefined();
    expect(plan({}, "/dev/pts/3").env).toContain("TERM=xterm-256color");
  });

  test("[SESS-7] variables that a shell would lose travel as words", () => {
    const { argv, env } = plan({ env: { "x.y": "1", SHLVL: "7", ok: "2" } });
    expect(env).toContain("ok=2");
    expect(env.some((word) => word.startsWith("x.y") || word.startsWith("SHLVL"))).toBe(false);
    expect(argv.slice(-4)).toEqual(["2", "x.y=1", "SHLVL=7", "true"]);
  });

  test("[SESS-7] what Linux cannot pass on is refused before anything runs", () => {
    expect(() => plan({ argv: ["echo", "a\0b"] })).toThrow(LaunchError);
    expect(() => plan({ argv: ["x".repeat(128 * 1024)] })).toThrow(/128 KiB/);
    expect(() => plan({ env: { "A=B": "1" } })).toThrow(LaunchError);
    expect(() => plan({ env: { A: "é".repeat(64 * 1024) } })).toThrow(/128 KiB/);
    expect(plan({ argv: ["echo", "x".repeat(127 * 1024)] }).argv.at(-1)).toHaveLength(127 * 1024);
  });
});
