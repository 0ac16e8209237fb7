import { existsSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import config from "../../vitest.config.ts";
import { ALL_STAGES, CHECKS, chooseStages, GROUPS, ON_DEMAND, TEST_STAGES } from "./stages.ts";

describe("stages", () => {
  it("are all of them without arguments, and those asked for in their own order", () => {
    expect(chooseStages([])).toEqual(ALL_STAGES.filter((name) => name !== "realwork"));
    expect(ON_DEMAND).toEqual(["realwork"]);
    expect(chooseStages(["realwork"])).toEqual(["realwork"]);
    expect(chooseStages(["unit", "check"])).toEqual(["check", "unit"]);
    expect(chooseStages(["fast"])).toEqual(GROUPS["fast"]);
    expect(() => chooseStages(["unti"])).toThrow("no stage unti");
  });

  it("know every project of vitest and every project is a stage", () => {
    const projects = (config.test?.projects ?? []).map((project) => (project as { test: { name: string } }).test.name);
    expect(TEST_STAGES.map((stage) => stage.project).sort()).toEqual(projects.sort());
    for (const project of projects) expect(ALL_STAGES).toContain(project);
  });

  it("run programs that are installed", () => {
    for (const { script } of CHECKS)
      expect(existsSync(path.join(import.meta.dirname, "..", "..", "node_modules", script)), script).toBe(true);
  });
});
