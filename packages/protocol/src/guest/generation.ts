/** The generation this build speaks. A change an old peer would misread needs a new number. */
export const GUEST_GENERATION = 1;
/** Generations this build's host side can still talk to. */
export const GUEST_GENERATIONS_SPOKEN: readonly number[] = [1];

/** Names of the two virtio-serial ports. */
export const BOOT_PORT = "sprited.boot";
export const LINK_PORT = "sprited.link";

/** Fixed addresses of the management network, the same in every VM. */
export const MANAGEMENT_NETWORK = {
  guestAddress: "192.168.127.2",
  hostAddress: "192.168.127.1",
  prefixLength: 30,
  /** TCP port of the agent's HTTP/2 listener. */
  port: 7781,
  /** MAC of the guest's management NIC; the agent finds the NIC by it. */
  guestMac: "52:54:00:00:7f:02",
} as const;

/** Fixed addresses of the user's network, the same in every VM. */
export const USER_NETWORK = {
  guestAddress: "10.117.0.2",
  gatewayAddress: "10.117.0.1",
  prefixLength: 30,
  guestMac: "52:54:00:00:75:02",
} as const;

/** Limits of generation 1. */
export const GUEST_LIMITS = {
  /** Longest line on the boot port, bytes. */
  bootLineBytesMax: 64 * 1024,
  /** Longest frame payload, bytes. */
  frameBytesMax: 1024 * 1024,
  /** Output the agent keeps unacknowledged per session before it stops reading, bytes. */
  retainBytesMax: 1024 * 1024,
  /** Input the host may send beyond what the command has taken, bytes. */
  inputWindowBytes: 1024 * 1024,
  /** Longest JSON body of a request or an answer other than the list of sessions, bytes. */
  jsonBytesMax: 64 * 1024,
  /** Most sessions an agent holds. */
  sessionsMax: 4096,
} as const;

/** HTTP/2 flow-control windows that both ends of the link offer, bytes. */
export const LINK_WINDOWS = {
  streamBytes: 4 * 1024 * 1024,
  linkBytes: 16 * 1024 * 1024,
} as const;
