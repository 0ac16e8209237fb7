export { vmmContract } from "./contract.ts";
export { CONTRACT_PORT, type ContractWorld } from "./world.ts";
