export { type BootShape, type BootSnapshot, type BootSnapshots, openBootSnapshots } from "./boot-snapshot.ts";
export type { Machine, MachineRecord, Machines, MachineSpec } from "./machine.ts";
export { isMemoryWhole, memoryPaths, type MemoryRecord, removeMemory } from "./memory.ts";
export { type MachinesOptions, openMachines } from "./machines.ts";
export { vmSpec } from "./vm-spec.ts";
