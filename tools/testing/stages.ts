/**
 * The stages of a full test run, in order. Pure data; `run-tests.ts` runs them.
 */

/** Programs that check the sources; each counts as one. Paths are below node_modules. */
export const CHECKS: readonly { name: string; script: string; args: readonly string[] }[] = [
  { name: "types", script: "typescript/bin/tsc", args: ["-p", "."] },
  { name: "lint", script: "oxlint/bin/oxlint", args: ["--deny-warnings"] },
  { name: "format", script: "oxfmt/bin/oxfmt", args: ["--check"] },
  { name: "unused", script: "knip/bin/knip.js", args: ["--no-progress"] },
];

export interface TestStage {
  /** Project of vitest.config.ts. */
  project: string;
  /** Real VMs run in it. */
  needsVms: boolean;
  /** Image besides the small one that it needs; built before it runs. */
  image?: string;
  /** Runs only when it is named: it takes long. */
  onDemand?: true;
  /** Any file below here, by this ending, belongs to it; a stage without files is left out. */
  files: readonly { below: string; ending: string }[];
}

export const TEST_STAGES: readonly TestStage[] = [
  { project: "tidy", needsVms: false, files: [{ below: "tests/tidy", ending: ".test.ts" }] },
  { project: "unit", needsVms: false, files: [{ below: "packages", ending: ".test.ts" }] },
  { project: "contract", needsVms: false, files: [{ below: "packages/vmm/src/contract", ending: ".test.ts" }] },
  { project: "compat", needsVms: false, files: [{ below: "tests/compat", ending: ".test.ts" }] },
  { project: "chaos", needsVms: false, files: [{ below: "tests/chaos", ending: ".test.ts" }] },
  {
    project: "integration",
    needsVms: true,
    files: [
      { below: "tests/integration", ending: ".test.ts" },
      { below: "packages", ending: ".vm.test.ts" },
    ],
  },
  { project: "conformance", needsVms: true, files: [{ below: "tests/conformance", ending: ".test.ts" }] },
  { project: "e2e", needsVms: true, files: [{ below: "tests/e2e", ending: ".test.ts" }] },
  { project: "army", needsVms: true, image: "default", files: [{ below: "tests/army", ending: ".test.ts" }] },
  { project: "realwork", needsVms: true, image: "default", onDemand: true, files: [{ below: "tests/realwork", ending: ".test.ts" }] },
];

/** Names that choose several stages at once. */
export const GROUPS: Readonly<Record<string, readonly string[]>> = {
  fast: ["check", "tidy", "unit", "contract", "compat"],
  vm: ["setup", "integration", "conformance", "e2e", "army"],
};

/** Every stage's name, in order. */
export const ALL_STAGES: readonly string[] = [
  "check",
  "tidy",
  "unit",
  "contract",
  "compat",
  "chaos",
  "setup",
  "integration",
  "conformance",
  "e2e",
  "army",
  "realwork",
];

/** Stages that run only when they are named. */
export const ON_DEMAND: readonly string[] = TEST_STAGES.filter((stage) => stage.onDemand).map((stage) => stage.project);

/** Turns arguments (stage and group names) into stages, in order. Throws on a name there is not. */
export function chooseStages(names: readonly string[]): string[] {
  if (names.length === 0) return ALL_STAGES.filter((name) => !ON_DEMAND.includes(name));
  const chosen = names.flatMap((name) => GROUPS[name] ?? [name]);
  for (const name of chosen) {
    if (!ALL_STAGES.includes(name)) throw new Error(`no stage ${name}; there are ${[...ALL_STAGES, ...Object.keys(GROUPS)].join(", ")}`);
  }
  return ALL_STAGES.filter((name) => chosen.includes(name));
}
