import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readSprite, type SpriteInfo } from "../api/sprites.ts";
import { apiAddress } from "./api.ts";
import { CATALOGUE, commandNames, findEntry } from "./catalogue.ts";
import { overview } from "./overview.ts";
import type { Command } from "commander";
import { isShellCommand, SHELL_ARGV } from "./shell-script.ts";
import { applyLine } from "./watch.ts";

describe("catalogue", () => {
  test("[CLI-10] every name and alias is there once and leads to a module", async () => {
    const names = commandNames();
    expect(new Set(names).size).toBe(names.length);
    for (const entry of [...CATALOGUE.values()].flat()) {
      expect(findEntry(entry.name)).toBe(entry);
      expect((await entry.load()).build).toBeTypeOf("function");
      expect(overview("1.0.0", (_, text) => text)).toContain(entry.summary);
    }
  });
});

describe("help", () => {
  const all = [...CATALOGUE.values()].flat();

  /** The text of `--help`, with what is added before and after. */
  function helpOf(command: Command): string {
    let text = "";
    command.configureOutput({ writeOut: (piece) => (text += piece) });
    command.outputHelp();
    return text;
  }

  test("[CLI-10] the overview fits 80 columns and groups every command", () => {
    const lines = overview("1.0.0", (_, text) => text).split("\n");
    expect(lines.filter((line) => [...line].length > 80)).toEqual([]);
    for (const [title, entries] of CATALOGUE) if (entries.length > 0) expect(lines).toContain(title);
  });

  test.each(all.map((entry) => [entry.name, entry] as const))(
    "[CLI-10] `sprite %s --help` fits 80 columns and has examples",
    async (name, entry) => {
      const root = (await entry.load()).build({ flags: {}, exitCode: 0 }) as unknown as Command;
      const texts = [root, ...root.commands].map((command) => [command.name(), helpOf(command)] as const);
      for (const [of, text] of texts) {
        expect(text.split("\n").filter((line) => [...line].length > 80)).toEqual([]);
        expect(text, `${name}: ${of}`).toMatch(/\nExamples:\n {2}\S/);
        expect(text).toMatch(new RegExp(`^Usage: sprite ${name.split(" ")[0]}`));
        expect(text).toMatch(/-h, --help +show this help/);
      }
    },
  );
});

describe("api", () => {
  test.each([
    ["/v1/sprites", undefined, "http://h/v1/sprites"],
    ["v1/sprites?a=b", undefined, "http://h/v1/sprites?a=b"],
    ["/check", "a b", "http://h/v1/sprites/a%20b/check"],
    ["/", "dev", "http://h/v1/sprites/dev"],
    ["?x=1", "dev", "http://h/v1/sprites/dev?x=1"],
  ])("[CLI-17] %s with -s %s", (text, sprite, url) => {
    expect(apiAddress("http://h", text, sprite)).toBe(url);
  });

  test.each(["http://evil.example/", "HTTPS://evil.example", "//evil.example", "file:///etc/passwd"])("[CLI-17] refuses %s", (text) => {
    expect(() => apiAddress("http://h", text, undefined)).toThrow(/not a whole URL/);
  });
});

describe("live list", () => {
  test("[CLI-13] lines of ours and of other servers change what is known", () => {
    const known = new Map<string, SpriteInfo>([["a", readSprite({ name: "a", status: "cold", labels: ["x"] })]]);
    expect(applyLine(known, { type: "heartbeat", timestamp: "t" })).toBeUndefined();
    expect(applyLine(known, { type: "sprite", name: "a", status: "cold" })).toBeUndefined();
    expect(applyLine(known, { name: "a", status: "running", timestamp: "t", org: {} })).toMatchObject({
      deleted: false,
      sprite: { status: "running", labels: ["x"] },
    });
    expect(applyLine(known, { type: "sprite", name: "b" })).toMatchObject({ sprite: { name: "b" } });
    expect(applyLine(known, { type: "deleted", name: "a" })).toMatchObject({ deleted: true });
    expect([...known.keys()]).toEqual(["b"]);
    expect(applyLine(known, { type: "sprite", name: 7 })).toBeUndefined();
  });
});

describe("the console's script", () => {
  test("[CLI-73] is told from other commands, so that a list of sessions calls it a console", () => {
    expect(isShellCommand(SHELL_ARGV.join(" "))).toBe(true);
    expect(isShellCommand("/bin/sh -c rest=1; make")).toBe(false);
  });

  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(path.join(tmpdir(), "shell-"));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  /** Runs the script with the given shells in PATH; each prints its name, arguments, SHELL and TERM. */
  function runScript(shells: readonly string[], env: Record<string, string> = {}): string {
    for (const shell of shells) {
      writeFileSync(path.join(dir, shell), '#!/bin/sh\necho "${0##*/} $* $SHELL $TERM"\n');
      chmodSync(path.join(dir, shell), 0o755);
    }
    const [program = "", ...args] = SHELL_ARGV;
    return execFileSync(program, args, {
      env: { PATH: dir, HOME: "/no/such/home", TERM: "xterm-256color", ...env },
      encoding: "utf8",
      // Only the shell that is fallen back to reads: a stub that is gone already would break the pipe.
      ...(shells.length === 0 ? { input: "echo fallback $0 $SHELL\n" } : { stdio: ["ignore", "pipe", "inherit"] as const }),
    }).trim();
  }

  test("[CLI-30] takes the first shell of the list that is there, as a login shell", () => {
    expect(runScript(["zsh", "fish"])).toBe(`zsh -l ${dir}/zsh xterm-256color`);
    expect(runScript(["bash"])).toBe(`bash -l ${dir}/bash xterm-256color`);
  });

  test("[CLI-30] falls back to sh", () => {
    expect(runScript([])).toBe("fallback /bin/sh /bin/sh");
  });

  test("[CLI-30] an unknown TERM becomes xterm-256color; a description of the user's own counts", () => {
    expect(runScript(["bash"], { TERM: "xterm-of-tomorrow" })).toMatch(/ xterm-256color$/);
    mkdirSync(path.join(dir, ".terminfo/x"), { recursive: true });
    writeFileSync(path.join(dir, ".terminfo/x/xterm-of-tomorrow"), "");
    expect(runScript(["bash"], { TERM: "xterm-of-tomorrow", HOME: dir })).toMatch(/ xterm-of-tomorrow$/);
  });
});
