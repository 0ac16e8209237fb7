export interface CloneOptions {
  signal?: AbortSignal | undefined;
  /** False: for a source that must stand still meanwhile. Nothing is flushed, and the caller does it later. */
  durable?: boolean;
}

/** Where disks live and how they are cloned. */
export interface DiskPool {
  readonly root: string;
  /** `reflink`: clones are constant time and share blocks; `copy`: they are sparse copies. */
  readonly cloneKind: "reflink" | "copy";
  /** How the pool came about, one sentence for people. */
  readonly reason: string;
  /** Clones a file inside the pool; atomic: `target` appears whole or not at all. Throws `DiskError`. */
  clone(source: string, target: string, options?: CloneOptions): Promise<void>;
  /** Free bytes for new data, after the configured floor. */
  freeBytes(): Promise<number>;
  /** Throws `disk_full` with both numbers unless `bytes` fit above the floor. */
  requireSpace(bytes: number, what: string): Promise<void>;
  /** Makes room for every byte of a sparse file before somebody maps it. Throws `disk_full`, then with nothing taken. */
  reserve(file: string, what: string, options?: { signal?: AbortSignal | undefined }): Promise<void>;
  /** Gives back what `reserve` took and nobody used. Nobody may write to the file meanwhile. */
  giveBack(file: string, what: string): Promise<void>;
}

/** A step of long work, for progress bars and logs. */
export interface Progress {
  /** What is being done, for people. */
  step: string;
  /** 0..1 when known. */
  fraction?: number;
  /** One line of detail. */
  detail?: string;
}
export type OnProgress = (progress: Progress) => void;
