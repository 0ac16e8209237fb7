import { MANAGEMENT_NETWORK, USER_NETWORK } from "@sprited/protocol/guest";
import type { NetworkOptions } from "@sprited/vmm";
import type { Config } from "../config/index.ts";

/** What the settings and the guest protocol decide about network slots. Pure. */
export function networkOptions(config: Config): NetworkOptions {
  return {
    home: config.home,
    layout: { management: MANAGEMENT_NETWORK, user: USER_NETWORK },
    subnet: config.network.subnet,
    uidBase: config.network.uidBase,
    spare: config.network.spareSlots,
    allowedPrivate: config.network.allowedPrivate,
    ...(config.network.dns.length === 0 ? {} : { resolvers: config.network.dns }),
  };
}
