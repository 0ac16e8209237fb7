export { markFinished, readFinished } from "./finished.ts";
export { SetupError, type SetupErrorCode } from "./errors.ts";
export { hostSteps, type HostStepsOptions, inspectPackages } from "./host-steps.ts";
export type { PackagePlan } from "./packages.ts";
export { findProgram, planPrivilege, type PrivilegePlan, sudoArguments } from "./privilege.ts";
export { formatDuration, openProgress, type ProgressReporter, type Screen } from "./progress.ts";
export { AGENT_BUNDLE, GUEST_OVERLAY, IMAGE_DEFINITIONS, PRODUCT_PACKAGE } from "./repository.ts";
export { freeBytesAt } from "./space.ts";
export { ensureHome, runSteps, type SetupStep } from "./steps.ts";
