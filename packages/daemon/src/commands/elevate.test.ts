import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { WITHOUT_ROOT } from "../setup/index.ts";
import { elevate } from "./elevate.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "elevate-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Stands in for sudo: `-v` ends with `validates`, anything else runs what follows `--` with an empty environment. */
function fakeSudo(validates: number): string {
  const file = path.join(directory, "sudo");
  writeFileSync(file, `#!/bin/sh\n[ "$1" = -v ] && exit ${validates}\nshift\nexec env -i "$@"\n`);
  chmodSync(file, 0o755);
  return file;
}

function run(facts: { uid: number; sudo: string | undefined; refused?: boolean }) {
  const said: string[] = [];
  const out = path.join(directory, "out");
  const script = 'printf "%s|%s|" "$SPRITED_HOME" "$HOME" > "$0"; printf "%s " "$@" >> "$0"; exit 42';
  const exitCode = elevate({
    command: ["/bin/sh", "-c", script, out],
    settings: { SPRITED_HOME: "/home/ada lovelace/s" },
    facts: { refused: false, ...facts },
    say: (line) => said.push(line),
  });
  return { exitCode, said, output: () => readFileSync(out, "utf8") };
}

describe("elevate", () => {
  it("does nothing for root", async () => {
    const { exitCode, said } = run({ uid: 0, sudo: "/usr/bin/sudo" });
    expect([await exitCode, said]).toEqual([undefined, []]);
  });

  it("runs the same command as root, with the settings, the process to watch, and its exit code", async () => {
    const { exitCode, output } = run({ uid: 1000, sudo: fakeSudo(0) });
    expect(await exitCode).toBe(42);
    expect(output()).toBe(`/home/ada lovelace/s||--starter-pid ${process.pid} `);
  });

  it.each([
    ["sudo says no", () => fakeSudo(1), false],
    ["there is no sudo", () => undefined, false],
    ["root is not wanted", () => fakeSudo(0), true],
  ])("goes on here and says what does not work when %s", async (_, sudo, refused) => {
    const { exitCode, said } = run({ uid: 1000, sudo: sudo(), refused });
    expect(await exitCode).toBeUndefined();
    for (const sentence of WITHOUT_ROOT) expect(said).toContain(`  - ${sentence}`);
  });
});
