/**
 * What the rest of the program sees of the host's network: prepared places for VMs.
 *
 * Order of calls: `open`, then `adopt` for each VM that survived, then `settle` (or the first
 * `acquire`, which settles as well). A slot that holds a running process is never removed.
 */

/**
 * A prepared place for one VM on the host's network: its own network namespace with two taps
 * (management, user), addresses, NAT and the rules that keep guests apart. Slots are made ahead
 * of need and reused; every one has the same inside, so that a snapshot fits any of them.
 */
export interface NetworkSlot {
  /** Small number, unique among the live slots of one home. */
  readonly index: number;
  readonly netnsPath: string;
  readonly managementTap: string;
  readonly userTap: string;
  /** Where the host reaches the agent of the VM in this slot. */
  readonly agentAddress: { host: string; port: number };
  /** The user and group the VMM of this slot runs as. */
  readonly uid: number;
  readonly gid: number;
}

export interface NetworkSlots {
  /** Takes a free slot, making one when none is ready. Throws `VmmError` `vmm_network`. */
  acquire(options?: { signal?: AbortSignal }): Promise<NetworkSlot>;
  /** Gives a slot back for reuse; only when no process is left in it. */
  release(slot: NetworkSlot): Promise<void>;
  /** Marks the slot of a VM that survived a restart as taken; undefined when the host lost it. */
  adopt(index: number): Promise<NetworkSlot | undefined>;
  /** Removes every slot of this home that is not taken. */
  close(): Promise<void>;
}

/** The slots as their opener has them. */
export interface OpenNetworkSlots extends NetworkSlots {
  /** Ends adoption: removes the slots of earlier runs that nobody adopted, begins to make spares. */
  settle(): Promise<void>;
  /**
   * Restores what others took from the host's rules (a reloaded firewall flushes them all, a
   * container engine closes the forward chain). Also done with each batch of slots; worth calling
   * every minute. Throws when `nft` fails.
   */
  refresh(): Promise<void>;
  /** What the operator should know about this host's network; empty when all is well. */
  readonly problems: readonly NetworkProblem[];
}

/** Something about the host's network that limits sprites, with the way out. */
export interface NetworkProblem {
  code:
    /** A rule set that is not ours drops forwarded packets: guests have no internet. */
    | "forward_blocked"
    /** No upstream DNS server was found: names do not resolve in guests. */
    | "no_resolver";
  /** One sentence: what is wrong and what it means. */
  message: string;
  /** What to do about it. */
  fix: string;
}

/** Fixed addresses inside every slot; the same in all, since snapshots carry them. */
export interface NetworkLayout {
  management: {
    guestAddress: string;
    hostAddress: string;
    prefixLength: number;
    /** TCP port of the agent. */
    port: number;
    guestMac: string;
  };
  user: { guestAddress: string; gatewayAddress: string; prefixLength: number; guestMac: string };
}

/** What may be decided about the slots of one home. */
export interface NetworkOptions {
  /** Absolute path of the home: slots are named after it, so that two homes never meet. */
  home: string;
  layout: NetworkLayout;
  /**
   * Range the links between host and slots are cut from, `a.b.c.d/n`, n ≤ 28. Left out or
   * 10.118.0.0/16: the first of a few /16 ranges that this host does not use, beginning there.
   */
  subnet?: string | undefined;
  /**
   * uid and gid of the slot with index 0. A home that does not get the first range of the list has
   * its users 10000 higher for each range before its own. Default 2000000.
   */
  uidBase?: number | undefined;
  /** Slots kept ready. Default 4. */
  spare?: number | undefined;
  /** Slots that may exist at once. Default 1000. */
  max?: number | undefined;
  /** Private ranges guests may reach, as CIDRs. Default none. */
  allowedPrivate?: readonly string[] | undefined;
  /** IPv4 addresses that answer the guests' DNS. Default: those of the host. */
  resolvers?: readonly string[] | undefined;
  /** Connections one guest may hold open through its user NIC. Default 16384. */
  connectionsMax?: number | undefined;
}
