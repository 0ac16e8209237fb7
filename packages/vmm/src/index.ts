/** The door of the package. */
export { VmmError, type VmmErrorCode } from "./errors.ts";
export {
  type GuestMemory,
  type GuestSurroundings,
  openSimulatedDriver,
  type RunningGuest,
  type SimulatedDriverOptions,
  type SimulatedGuest,
  SimulatedHost,
  type StartFault,
} from "./fake/index.ts";
export {
  findResolvers,
  inspectNetwork,
  isolatedSlots,
  type NetworkFacts,
  type NetworkLayout,
  type NetworkOptions,
  type NetworkProblem,
  type NetworkSlot,
  type NetworkSlots,
  networkSupport,
  type OpenNetworkSlots,
  openNetworkSlots,
  readNetworkFacts,
  removeNetworksOfGoneHomes,
} from "./net/index.ts";
export {
  type Accelerator,
  type AcceleratorKind,
  openQemuDriver,
  type QemuDriverOptions,
  type QemuProgram,
  type ResolveAccelerator,
  resolveAccelerator,
} from "./qemu/index.ts";
export type { MemorySnapshot, VmExit, VmJail, VmmDriver, VmProcess, VmShape, VmSpec } from "./vmm.ts";
