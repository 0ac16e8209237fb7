/**
 * The network that a sprite's programs see. In a VM it is a namespace of its own, so sockets that
 * are to reach those programs must be made in it.
 */

export interface SpriteNetwork {
  /** Runs `work` with this thread in the sprite's network namespace. Synchronous. Throws `EnclosureGoneError`. */
  inside<T>(work: () => T): T;
  /** A process whose view in /proc shows the sprite's sockets; undefined while no environment runs. */
  viewPid(): number | undefined;
  /** Whether what a process of that view listens on is the sprite's. */
  owns(pid: number): boolean;
}
