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
