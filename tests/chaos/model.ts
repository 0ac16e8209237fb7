/**
 * What the daemon owes after what it acknowledged. Contents are numbers; where a death leaves more
 * than one outcome open, the model keeps all of them, and learns from the next look.
 */

export interface OwedSprite {
  name: string;
  /** False: asked for and never answered. */
  isSure: boolean;
  /** Its deletion was asked for and never answered. */
  isDoomed: boolean;
  /** What the disk may hold. */
  disk: Set<number>;
  /** What a reader may see while the memory lives. */
  seen: Set<number>;
  /** Nothing happened that may cost the memory since `seen` was learnt. */
  isMemorySure: boolean;
  /** It was put to sleep, and nothing was asked of it since: its memory is in files. */
  isAsleep: boolean;
  /** Acknowledged checkpoints and what each may hold. */
  checkpoints: Map<string, Set<number>>;
  /** Checkpoints that may go by themselves, or whose deletion is open. */
  mayBeGone: Set<string>;
  /** What checkpoints hold that were made by themselves and whose name nobody was told. */
  unnamed: Set<number>;
  /** Acknowledged jobs: how many lines each prints. */
  jobs: Map<string, number>;
  /** Output that clients got, by session. */
  got: Map<string, string>;
}

export class Model {
  readonly sprites = new Map<string, OwedSprite>();
  /** Names whose deletion was acknowledged. */
  readonly deleted = new Set<string>();
  /** Templates and what their sprites begin with. */
  readonly templates = new Map<string, Set<number>>();
  /** Archives that were exported, and what their disks may hold. */
  readonly archives: { bytes: Buffer; content: Set<number> }[] = [];
  readonly pools = new Map<string, string>();
  /** Claims that were answered: key → name. */
  readonly claims = new Map<string, { pool: string; name: string }>();
  /** Sprites asked for together and not acknowledged: all of them are there after the next start, or none; refused ones never. */
  batches: { names: string[]; isRefused: boolean }[] = [];
  /** VMs that were ended under their sprites so far. */
  crashes = 0;
  #last = 0;

  /** A number that was never used. */
  next(): number {
    this.#last += 1;
    return this.#last;
  }

  /** Some VM ends: any memory may be gone. */
  crashed(): void {
    this.crashes += 1;
    for (const sprite of this.sprites.values()) sprite.isMemorySure = false;
  }

  /** The host lost its power: all memory but that in files is gone, and output that was not flushed. */
  lostPower(): void {
    this.crashes += 1;
    for (const sprite of this.sprites.values()) {
      if (!sprite.isAsleep) sprite.isMemorySure = false;
      sprite.got.clear();
    }
  }

  /** A sprite that was asked for. */
  asked(name: string, content: Iterable<number> = [0]): OwedSprite {
    const sprite: OwedSprite = {
      name,
      isSure: false,
      isDoomed: false,
      disk: new Set(content),
      seen: new Set(content),
      isMemorySure: false,
      isAsleep: false,
      checkpoints: new Map(),
      mayBeGone: new Set(),
      unnamed: new Set(),
      jobs: new Map(),
      got: new Map(),
    };
    this.sprites.set(name, sprite);
    return sprite;
  }

  gone(name: string): void {
    this.sprites.delete(name);
    this.deleted.add(name);
  }

  /** Sprites that certainly exist. */
  sure(): OwedSprite[] {
    return [...this.sprites.values()].filter(({ isSure, isDoomed }) => isSure && !isDoomed);
  }
}

/** What a reader may see now. */
export function visible(sprite: OwedSprite): Set<number> {
  return sprite.isMemorySure ? sprite.seen : new Set([...sprite.seen, ...sprite.disk]);
}

export function addAll(into: Set<number>, values: Iterable<number>): void {
  for (const value of values) into.add(value);
}
