export { openSimulatedDriver, type SimulatedDriverOptions } from "./driver.ts";
export { SimulatedHost, type StartFault } from "./host.ts";
export type { GuestMemory, GuestSurroundings, RunningGuest, SimulatedGuest } from "./machine.ts";
