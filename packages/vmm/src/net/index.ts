/** The door of the network part. */
export { removeNetworksOfGoneHomes } from "./gone-homes.ts";
export { inspectNetwork } from "./host.ts";
export { isolatedSlots } from "./isolated.ts";
export type { NetworkLayout, NetworkOptions, NetworkProblem, NetworkSlot, NetworkSlots, OpenNetworkSlots } from "./network.ts";
export { findResolvers } from "./resolvers.ts";
export { openNetworkSlots } from "./slots.ts";
export { type NetworkFacts, networkSupport, readNetworkFacts } from "./support.ts";
