import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const ROOT = path.dirname(import.meta.dirname);
let directory = "";
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "lint-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Runs the real linter with our plugin over one file; returns `rule:line` of each finding. */
function lint(source: string): string[] {
  const rules = ["no-process-env", "no-raw-spawn", "no-raw-timer", "no-process-on", "no-empty-catch"];
  writeFileSync(
    path.join(directory, ".oxlintrc.json"),
    JSON.stringify({
      jsPlugins: [path.join(ROOT, "lint", "plugin.ts")],
      categories: { correctness: "off" },
      rules: Object.fromEntries(rules.map((rule) => [`house/${rule}`, "error"])),
    }),
  );
  writeFileSync(path.join(directory, "a.ts"), source);
  const result = spawnSync(process.execPath, [path.join(ROOT, "node_modules", "oxlint", "bin", "oxlint"), "-f", "json", "a.ts"], {
    cwd: directory,
    encoding: "utf8",
  });
  const report = JSON.parse(result.stdout) as { diagnostics: { code: string; labels: { span: { line: number } }[] }[] };
  return report.diagnostics.map((one) => `${/\((.*)\)/.exec(one.code)?.[1]}:${one.labels[0]?.span.line}`).sort();
}

describe("house rules", () => {
  it("find what they forbid, each at its line", () => {
    const source = `import { spawn } from "node:child_process";
import { setTimeout as wait } from "node:timers/promises";
const home = process.env.HOME;
const other = process["env"];
setTimeout(() => home, 1);
globalThis.setInterval(() => other, 1);
process.on("SIGTERM", spawn);
await wait(1).catch(() => {});
await wait(1).catch(() => undefined);
await import("execa");
`;
    expect(lint(source)).toEqual([
      "no-empty-catch:8",
      "no-empty-catch:9",
      "no-process-env:3",
      "no-process-env:4",
      "no-process-on:7",
      "no-raw-spawn:1",
      "no-raw-spawn:10",
      "no-raw-timer:2",
      "no-raw-timer:5",
      "no-raw-timer:6",
    ]);
  });

  it("leave alone what only looks like it", () => {
    const source = `import type { ChildProcess } from "node:child_process";
import { sleep, ignore } from "@sprited/base";
const config = { env: 1, setTimeout: (ms: number) => ms };
config.setTimeout(config.env);
const emitter = { on: (name: string) => name };
emitter.on("SIGTERM");
await sleep(1).catch(ignore("over anyway"));
await sleep(1).catch((error) => console.error(error));
export type Child = ChildProcess;
`;
    expect(lint(source)).toEqual([]);
  });
});
