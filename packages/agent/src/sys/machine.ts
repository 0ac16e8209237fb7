/** What of the machine the agent changes before it may work for an incarnation (BOOT-4). */
import fs from "node:fs";
import { ioctl, setWallClock } from "./libc.ts";

/** Clock and randomness of the machine; bare agents have none of their own. */
export interface Machine {
  /** Steps the wall clock, ms since the epoch. Throws when it cannot. */
  setClock(timeMs: number): void;
  /** Mixes `seed` into the kernel's RNG and makes it reseed. Throws when it cannot. */
  reseed(seed: Uint8Array): void;
}

/** The clock is left alone when it is this near, so that timers of running programs see no jump, ms. */
const CLOCK_TOLERANCE_MS = 20;

export const virtualMachine: Machine = {
  setClock: (timeMs) => {
    if (Math.abs(Date.now() - timeMs) > CLOCK_TOLERANCE_MS) setWallClock(timeMs);
  },
  reseed: (seed) => {
    const RNDADDENTROPY = 0x40085203;
    const RNDRESEEDCRNG = 0x5207;
    const pool = Buffer.alloc(8 + seed.length);
    pool.writeInt32LE(seed.length * 8, 0);
    pool.writeInt32LE(seed.length, 4);
    pool.set(seed, 8);
    const fd = fs.openSync("/dev/urandom", "r+");
    try {
      ioctl(fd, RNDADDENTROPY, pool);
      ioctl(fd, RNDRESEEDCRNG, null);
    } finally {
      fs.closeSync(fd);
      pool.fill(0);
    }
  },
};

/** For agents that run as an ordinary process of a host. */
export const bareMachine: Machine = { setClock() {}, reseed() {} };
