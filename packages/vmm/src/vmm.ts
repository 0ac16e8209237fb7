import type { Duplex } from "node:stream";

/**
 * What every VMM driver offers. A driver knows machines, not sprites: it takes paths, sizes and
 * names, and gives back a running process. It never reads the database and never speaks HTTP.
 *
 * A VM process is detached: it outlives the program that started it and is found again by
 * `adopt`. Its directory (`VmSpec.directory`) holds everything needed for that.
 */
export interface VmmDriver {
  readonly name: string;
  /**
   * Program build + machine type + accelerator. Memory snapshots can be resumed only by the
   * same build string.
   */
  readonly build: string;
  /** How guest code is executed and why (from the probe, or from the configuration). */
  readonly accelerator: { kind: "kvm" | "tcg" | "simulated"; reason: string };
  /** Whether it can write private memory to a file (`savePath`). Where it cannot, only shared memory can be kept. */
  readonly savesPrivateMemory: boolean;
  /**
   * Starts a VM: cold, or from a memory snapshot. Resolves when the guest's vCPUs run.
   * Throws `VmmError`; then nothing of it is left (no process, socket or cgroup).
   */
  start(spec: VmSpec, options?: { signal?: AbortSignal }): Promise<VmProcess>;
  /**
   * Finds the VM that an earlier program run started in `directory`. Undefined when it is gone;
   * then what it left (directory, cgroup) is removed. A resume of a snapshot `once` that was cut
   * off is finished where its VM may have run, else taken back with the snapshot as it was.
   */
  adopt(directory: string): Promise<VmProcess | undefined>;
  /** Lets go of every VM: they run on, their `VmProcess` objects are of no more use. */
  close(): Promise<void>;
}

/** The form of a machine: what a memory snapshot depends on beside the VMM build. */
export interface VmShape {
  cpus: number;
  /** MiB. */
  memoryMib: number;
}

export interface VmSpec {
  /** Id of this VM run; unique on this host. */
  incarnation: string;
  /** Directory for sockets, pid file, spec and logs; made by the driver, removed by `VmProcess.dispose`. */
  directory: string;
  shape: VmShape;
  kernel: { imagePath: string; initrdPath: string; commandLine: string };
  /** Block devices; the guest finds them by `serial`. The order is part of the shape. */
  disks: readonly { serial: string; path: string; readOnly: boolean }[];
  /** Network cards; empty where the host has no taps. The order is part of the shape. */
  nics: readonly { mac: string; tap: string }[];
  /** Names of virtio-serial ports; `VmProcess.openPort` connects to them. */
  ports: readonly string[];
  memory:
    | { kind: "fresh"; /** File that becomes the RAM. */ path: string }
    | {
        kind: "snapshot";
        snapshot: MemorySnapshot;
        /** `private`: copy-on-write view of a file all share. `shared`: the file is this VM's RAM. */
        mapping: "private" | "shared";
        /** With `private`: empty file beside no other's that `saveState` writes the RAM to. It must stay in its place. */
        savePath?: string | undefined;
        /**
         * With `shared`: the snapshot can be resumed once. Before a vCPU may run its device state is
         * gone from `statePath`, durably; a start that ends before that leaves it as it was.
         */
        once?: boolean | undefined;
      };
  /** Confinement of the VMM process; undefined without root. */
  jail?: VmJail | undefined;
}

/** How a VMM process is confined. */
export interface VmJail {
  uid: number;
  gid: number;
  /** Path of the network namespace to run in. */
  netnsPath: string;
}

/** RAM plus device state on disk. Private to one `VmmDriver.build` and one `VmShape`. */
export interface MemorySnapshot {
  /** Sparse file; holds the RAM from `ramOffset` to its end. */
  ramPath: string;
  /** Bytes; 0 when left out. */
  ramOffset?: number | undefined;
  /** Device state. */
  statePath: string;
  build: string;
  shape: VmShape;
}

/** Why a VM process is no more. */
export interface VmExit {
  /** `requested`: killed or shut down by us; `guest`: the guest powered off; `crashed`: anything else. */
  kind: "requested" | "guest" | "crashed";
  /**
   * Last lines of the guest's console, where it ended by itself, and of the VMM's own error output;
   * for the log, never shown to API clients. The guest wrote what it liked.
   */
  detail: string;
}

export interface VmProcess {
  readonly incarnation: string;
  readonly pid: number;
  readonly spec: VmSpec;
  /** Resolves once, when the process is gone. Never rejects. */
  readonly exited: Promise<VmExit>;
  /** Opens a virtio-serial port. Several openings of one port one after another are allowed. */
  openPort(name: string, options?: { signal?: AbortSignal }): Promise<Duplex>;
  /** Stops the vCPUs; memory stays. Idempotent. */
  pause(): Promise<void>;
  /** Lets the vCPUs run. Idempotent. */
  resume(): Promise<void>;
  isPaused(): Promise<boolean>;
  /**
   * Saves a paused VM; it may go on afterwards. The device state goes to `statePath`. The RAM is
   * in its file already when that is mapped shared, else it is written to the spec's `savePath`
   * anew; throws `vmm_not_shared` where there is none. Nothing is flushed to the disk.
   */
  saveState(statePath: string): Promise<MemorySnapshot>;
  /** Last console output of the guest, bounded. */
  console(): Promise<string>;
  /** Ends the process at once and waits until it is gone. Idempotent. */
  kill(): Promise<void>;
  /** Removes what the process left: directory, cgroup. Only after `exited`. */
  dispose(): Promise<void>;
}
