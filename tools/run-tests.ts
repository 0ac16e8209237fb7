import path from "node:path";
import { hasFiles, ROOT, runChecks, runProject, runScript } from "./testing/run-stage.ts";
import { chooseStages, TEST_STAGES } from "./testing/stages.ts";
import { addCounts, closingLine, type Counts, type Failure, failureLines } from "./testing/summary.ts";
import { ensureTestPackages } from "./testing/test-packages.ts";

/**
 * `npm test`: set-up, checks and every suite; each stage with its time, and alone on the last
 * line the sum. `npm test -- fast` leaves out what needs VMs; `npm test -- unit` is one stage.
 * `npm test -- realwork` runs only when it is named: it builds the developer's image first.
 */

/** Home whose images and kernel the tests with real VMs share; kept for the next run. */
const TEST_HOME = process.env["SPRITED_TEST_HOME"] ?? "/var/tmp/sprited-test";

/** Small VMs: what the tests use by default, so that the set-up makes their boot snapshot. */
const SMALL_VMS: Record<string, string> = {
  SPRITED_HOME: TEST_HOME,
  SPRITED_SPRITE_CPUS: "1",
  SPRITED_SPRITE_MEMORY_MB: "512",
  SPRITED_SPRITE_STORAGE_GB: "10",
  SPRITED_SPRITE_IMAGE: "minimal",
  SPRITED_DISK_FREE_FLOOR_GB: "1",
};

interface StageEnd extends Counts {
  name: string;
  seconds: number;
  note: string;
}

const ends: StageEnd[] = [];
const failures: Failure[] = [];
/** Why real VMs cannot be tested; undefined while they can. */
let withoutVms: string | undefined = process.getuid?.() === 0 ? undefined : "real VMs need root (networks, control groups)";

for (const name of chooseStages(process.argv.slice(2))) {
  const started = performance.now();
  console.log(`\n── ${name} ${"─".repeat(Math.max(0, 70 - name.length))}`);
  const { note, ...counts } = await runStage(name);
  const seconds = (performance.now() - started) / 1000;
  ends.push({ name, seconds, note, ...counts });
  console.log(`── ${name}: ${closingLine(counts)}, ${seconds.toFixed(1)} s${note === "" ? "" : ` (${note})`}`);
}

const sum = addCounts(ends);
console.log("\nstage         passed  failed  skipped   time");
for (const end of ends) {
  const numbers = [end.passed, end.failed, end.skipped].map((count) => String(count).padStart(8)).join("");
  console.log(`${end.name.padEnd(12)}${numbers} ${`${end.seconds.toFixed(1)} s`.padStart(9)}${end.note === "" ? "" : `  ${end.note}`}`);
}
if (failures.length > 0) console.log(`\nfailed:\n${failures.flatMap((failure) => failureLines(failure, ROOT)).join("\n")}`);
console.log(`\n${closingLine(sum)}`);
process.exitCode = sum.failed === 0 ? 0 : 1;

async function runStage(name: string): Promise<Counts & { note: string }> {
  if (name === "check") {
    const results = await runChecks();
    const broken = results.filter((result) => result.failed > 0).map((result) => result.name);
    return { ...addCounts(results), note: broken.join(", ") };
  }
  if (name === "setup") return addPackages(await runSetup());
  const stage = TEST_STAGES.find((one) => one.project === name);
  if (!stage || !hasFiles(stage)) return { passed: 0, failed: 0, skipped: 0, note: "there are no such tests yet" };
  if (stage.needsVms && withoutVms !== undefined) return { passed: 0, failed: 0, skipped: 1, note: `skipped: ${withoutVms}` };
  if (stage.image !== undefined) {
    const built = await runSetup(stage.image);
    if (built.failed > 0) return built;
  }
  const environment = stage.needsVms ? { SPRITED_TEST_HOME: TEST_HOME, SPRITED_TEST_REQUIRE_VM: "1" } : {};
  const { skippedTests, failures: found, ...counts } = await runProject(name, [], environment);
  failures.push(...found);
  for (const test of skippedTests) console.log(`   skipped: ${test}`);
  return { ...counts, note: "" };
}

/** Adds the programs that only tests run; without them one more has failed, and VMs are tested all the same. */
async function addPackages(setup: Counts & { note: string }): Promise<Counts & { note: string }> {
  if (setup.skipped > 0) return setup;
  const problem = await ensureTestPackages();
  if (problem === undefined) return setup;
  return { ...setup, failed: setup.failed + 1, note: `programs for tests: ${problem}` };
}

/** Builds what real VMs need; a second run finds it all. */
async function runSetup(image = "minimal"): Promise<Counts & { note: string }> {
  if (withoutVms !== undefined) return { passed: 0, failed: 0, skipped: 1, note: `skipped: ${withoutVms}` };
  const entry = path.join(ROOT, "packages", "daemon", "src", "main.ts");
  const exitCode = await runScript(entry, ["setup", "--image", image], { ...SMALL_VMS, SPRITED_SPRITE_IMAGE: image });
  if (exitCode === 0) return { passed: 1, failed: 0, skipped: 0, note: TEST_HOME };
  withoutVms = "the set-up failed";
  return { passed: 0, failed: 1, skipped: 0, note: `exit code ${exitCode}` };
}
