import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { commandNames } from "../commands/catalogue.ts";
import { planCompletion } from "./plan.ts";
import { completionScript, SHELLS } from "./scripts.ts";

/** What is offered for a line that ends where the cursor is. */
async function offered(line: string): Promise<string[]> {
  const plan = await planCompletion(line.split(" "));
  if (plan.kind) return [`<${plan.kind}>`];
  return (plan.candidates ?? []).map(({ value }) => `${plan.prefix}${value}`).filter((value) => value.startsWith(plan.prefix + plan.begin));
}

describe("completion", () => {
  test("[CLI-50] commands, and flags that stand before them", async () => {
    expect((await offered("con")).sort()).toEqual(["config", "console"]);
    const all = await offered("");
    expect(all.every((name) => commandNames().includes(name))).toBe(true);
    expect(all).toContain("exec");
    expect(await offered("--s")).toEqual(["--sprite"]);
    expect(await offered("-s ")).toEqual(["<sprite>"]);
    expect(await offered("-o ")).toEqual(["<organization>"]);
    expect((await offered("-s dev ex")).sort()).toEqual(["exec", "export"]);
    expect(await offered("help con")).toEqual(await offered("con"));
    expect(await offered("nothing ")).toEqual([]);
  });

  test("[CLI-50] flags and values of a command, also after =, whole or split as bash does", async () => {
    expect((await offered("exec --no")).sort()).toEqual(["--no-port-forward", "--no-stdin"]);
    expect(await offered("exec -s ")).toEqual(["<sprite>"]);
    expect(await offered("exec --sprite=de")).toEqual(["<sprite>"]);
    expect(await offered("exec --sprite = de")).toEqual(["<sprite>"]);
    expect((await planCompletion(["exec", "--sprite=de"])).prefix).toBe("--sprite=");
    expect((await planCompletion(["exec", "--sprite", "=", "de"])).prefix).toBe("");
    expect(await offered("config update --private-access ")).toEqual(["admins", "org_users"]);
    expect(await offered("config ")).toEqual(["update"]);
    expect(await offered("org li")).toEqual(["list"]);
    expect(await offered("completion ")).toEqual(["<shell>"]);
  });

  test("[CLI-50] sprites and sessions, of the sprite that the line names", async () => {
    expect(await offered("destroy ")).toEqual(["<sprite>"]);
    expect(await offered("destroy dev ")).toEqual([]);
    expect(await offered("use --unset ")).toEqual(["<sprite>"]);
    expect(await offered("attach ")).toEqual(["<session>"]);
    expect((await planCompletion(["attach", "-s", "dev", ""])).flags).toEqual({ sprite: "dev" });
    expect((await planCompletion(["-o", "team", "attach", "--sprite=dev", ""])).flags).toEqual({ org: "team", sprite: "dev" });
  });

  test("[CLI-50] nothing of ours in the words of another program", async () => {
    expect(await offered("exec -- --no")).toEqual([]);
    expect(await offered("exec ls --no")).toEqual([]);
    expect(await offered("exec -- ")).toEqual([]);
  });
});

describe("completion scripts", () => {
  test.each(SHELLS)("[CLI-51] %s: asks the program at every Tab and knows no command by itself", (shell) => {
    const script = completionScript(shell);
    expect(script).toContain("__complete");
    for (const name of ["console", "destroy", "attach"]) expect(script).not.toContain(name);
  });

  test("[CLI-51] bash takes its script", () => {
    const probe = `${completionScript("bash")}\ncomplete -p sprite; bash -n <(printf '%s' "$SCRIPT")`;
    const out = execFileSync("bash", ["--norc", "-c", probe], {
      encoding: "utf8",
      env: { ...process.env, SCRIPT: completionScript("bash") },
    });
    expect(out.trim()).toBe("complete -F _sprite sprite");
  });
});
