export { installPackages } from "./apt.ts";
export { markFinished, readFinished } from "./finished.ts";
export { SetupError, type SetupErrorCode } from "./errors.ts";
export { describePackages, type PackagePlan, planPackages, PROGRAM_DIRECTORIES, SYSTEM_PACKAGES } from "./packages.ts";
export { findProgram, planPrivilege, type PrivilegePlan, sudoArguments } from "./privilege.ts";
export { formatDuration, openProgress, type ProgressReporter, type Screen } from "./progress.ts";
export { freeBytesAt } from "./space.ts";
export { ensureHome, runSteps, type SetupStep } from "./steps.ts";
