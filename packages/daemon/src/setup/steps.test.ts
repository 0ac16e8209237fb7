import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findProgram, planPrivilege, sudoArguments, WITHOUT_ROOT } from "./privilege.ts";
import { openProgress } from "./progress.ts";
import { SPACE_NEEDS } from "./space.ts";
import { runSteps, type SetupStep } from "./steps.ts";

let directory = "";
let home = "";
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "steps-"));
  home = path.join(directory, "home");
});
afterEach(async () => rm(directory, { recursive: true, force: true }));

const progress = openProgress({ write: () => {}, isTty: false, columns: 80 });

async function run(steps: readonly SetupStep[], freeBytes = Number.MAX_SAFE_INTEGER, signal?: AbortSignal): Promise<void> {
  await runSteps(steps, { home, progress, floorBytes: 0, freeBytes: async () => freeBytes, signal });
}

describe("runSteps", () => {
  it("goes on after the step at which it failed", async () => {
    const done: string[] = [];
    let broken = true;
    const steps: SetupStep[] = [
      { id: "system", title: "system", need: "system", run: async () => void done.push("system") },
      {
        id: "image:default",
        title: "image",
        need: "image:default",
        run: async () => {
          if (broken) throw new Error("killed");
          done.push("image");
        },
      },
    ];
    await expect(run(steps)).rejects.toThrow("killed");
    broken = false;
    // The first step is finished: only the image's room is asked for.
    await run(steps, SPACE_NEEDS["image:default"]);
    expect(done).toEqual(["system", "system", "image"]);
    // Everything is finished: a full disk stops nothing.
    await run(steps, 0);
  });

  it("begins no step when the room does not suffice", async () => {
    const done: string[] = [];
    await expect(run([{ id: "a", title: "a", need: "system", run: async () => void done.push("a") }], 1)).rejects.toThrow(
      "Not enough disk space",
    );
    expect(done).toEqual([]);
  });

  it("makes a home that others can pass but not list", async () => {
    await run([]);
    expect((await stat(home)).mode & 0o777).toBe(0o711);
  });

  it("says which home cannot be made", async () => {
    await writeFile(path.join(directory, "file"), "");
    home = path.join(directory, "file", "home");
    await expect(run([])).rejects.toMatchObject({ code: "home_unusable" });
  });

  it("leaves out a step whose fingerprint is still that of the last time", async () => {
    const done: string[] = [];
    let dependsOn = "kernel 1";
    const step: SetupStep = {
      id: "snapshot",
      title: "snapshot",
      fingerprint: async () => dependsOn,
      run: async () => void done.push(dependsOn),
    };
    await run([step]);
    await run([step]);
    dependsOn = "kernel 2";
    await run([step]);
    await run([step]);
    expect(done).toEqual(["kernel 1", "kernel 2"]);
  });

  it("stops between steps when asked to", async () => {
    const stop = new AbortController();
    const done: string[] = [];
    const steps: SetupStep[] = [
      { id: "a", title: "a", run: async () => stop.abort(new Error("stopped")) },
      { id: "b", title: "b", run: async () => void done.push("b") },
    ];
    await expect(run(steps, 1, stop.signal)).rejects.toThrow("stopped");
    expect(done).toEqual([]);
  });
});

describe("planPrivilege", () => {
  it("uses root, then sudo, then goes on without and says what that costs", () => {
    expect(planPrivilege({ uid: 0, sudo: undefined, refused: false }).kind).toBe("root");
    expect(planPrivilege({ uid: 1000, sudo: "/usr/bin/sudo", refused: false })).toEqual({ kind: "sudo", program: "/usr/bin/sudo" });
    for (const facts of [
      { uid: 1000, sudo: undefined, refused: false },
      { uid: 1000, sudo: "/usr/bin/sudo", refused: true },
    ]) {
      expect(planPrivilege(facts)).toEqual({ kind: "unprivileged" });
    }
    for (const sentence of WITHOUT_ROOT) expect(sentence).toMatch(/^[A-Z][^.]*\.$/);
  });
});

describe("sudoArguments", () => {
  it("keeps values with spaces and signs whole and ends sudo's own options first", () => {
    expect(sudoArguments(["node", "main.ts"], { SPRITED_HOME: "/a b", X: "a=b;c" })).toEqual([
      "--",
      "/usr/bin/env",
      "SPRITED_HOME=/a b",
      "X=a=b;c",
      "node",
      "main.ts",
    ]);
  });
});

describe("findProgram", () => {
  it("finds what is installed and nothing else", () => {
    expect(findProgram("sh")).toMatch(/\/sh$/);
    expect(findProgram("no-such-program")).toBeUndefined();
  });
});
