import { runProject } from "./testing/run-stage.ts";
import { closingLine } from "./testing/summary.ts";

/**
 * Some suites by hand: `run-vitest.ts unit [FILE …]`, `run-vitest.ts vm [FILE …]`. For a run of
 * everything use `npm test`.
 */

const [which = "unit", ...args] = process.argv.slice(2);
const project = which === "vm" ? "integration" : which;
const home = process.env["SPRITED_TEST_HOME"] ?? "/var/tmp/sprited-test";
const counts = await runProject(project, args, { SPRITED_TEST_HOME: home });
console.log(closingLine(counts));
process.exitCode = counts.failed === 0 ? 0 : 1;
