export { vmmContract } from "./contract.ts";
export { askGuest, CONTRACT_PORT, type ContractWorld } from "./world.ts";
