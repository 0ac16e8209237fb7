export { type Accelerator, type ResolveAccelerator, resolveAccelerator } from "./accelerator.ts";
export type { AcceleratorKind, QemuProgram } from "./args.ts";
export { openQemuDriver, type QemuDriverOptions } from "./driver.ts";
