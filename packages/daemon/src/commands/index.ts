export type { DaemonPort, RunningDaemon } from "./daemon-port.ts";
export { EXIT_CODES } from "./exit-codes.ts";
export { explainFailure } from "./failure.ts";
export { makeProgram, type ProgramPorts } from "./program.ts";
