import { runChecks, runProject } from "./testing/run-stage.ts";
import { addCounts, closingLine } from "./testing/summary.ts";

/** `npm run check`: types, lint, format, unused code, structure. No VM, no network. */

const counts = addCounts([...(await runChecks()), await runProject("tidy")]);
console.log(closingLine(counts));
process.exitCode = counts.failed === 0 ? 0 : 1;
