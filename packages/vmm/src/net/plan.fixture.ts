/** A plan for tests: the layout of the guest protocol, one private resolver. */
import type { NetworkLayout, NetworkOptions } from "./network.ts";
import { type NetworkPlan, planNetwork } from "./plan.ts";

export const LAYOUT: NetworkLayout = {
  management: { guestAddress: "192.168.127.2", hostAddress: "192.168.127.1", prefixLength: 30, port: 7781, guestMac: "52:54:00:00:7f:02" },
  user: { guestAddress: "10.117.0.2", gatewayAddress: "10.117.0.1", prefixLength: 30, guestMac: "52:54:00:00:75:02" },
};

export function planOf(options: Partial<NetworkOptions> = {}): NetworkPlan {
  return planNetwork({ home: "/var/lib/sprited", layout: LAYOUT, ...options, resolvers: options.resolvers ?? ["192.168.1.1"] });
}
