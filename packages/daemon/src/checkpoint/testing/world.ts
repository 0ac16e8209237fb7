/**
 * Checkpoints over real files and a real store, with sprites that are files alone. Every call of
 * a part passes a gate where a test lets it fail, or lets the daemon "die": then nothing behind
 * it happens any more, and `restart` begins anew over what is on the disk.
 */
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { silentLogger } from "@sprited/base";
import type { DiskPool, DiskVerdict } from "@sprited/disk";
import { Activities } from "../../sprite/activity.ts";
import type { Replacement, Sprite } from "../../sprite/index.ts";
import { CheckpointRecords, openDatabase } from "../../store/index.ts";
import { Checkpoints } from "../checkpoints.ts";
import { CheckpointFiles } from "../files.ts";
import type { RestoreParts } from "../restore.ts";
import type { SpriteStates, StateMemory } from "../sprite-state.ts";
import type { MemoryRecord } from "../../machine/index.ts";
import type { Trial } from "../throwaway.ts";
import { Verifier } from "../verifier.ts";
import { withSpriteRow } from "./sprite-row.ts";

export class InjectedFault extends Error {
  override readonly name = "InjectedFault";
}

/** What happens at the gate with that number; gates are counted from the moment `arm` is called. */
export interface Fault {
  kind: "throw" | "die";
  at: number;
  /** How many gates in a row throw; one when left out. */
  count?: number;
}

export class World {
  readonly root: string;
  readonly sprite: Sprite;
  readonly database = openDatabase(":memory:");
  checkpoints: Checkpoints;
  verdict: (file: string) => Promise<DiskVerdict> = async () => ({ healthy: true, detail: "" });
  trial: () => Promise<Trial> = async () => ({ outcome: "answered", detail: "" });
  /** Whether a guest runs, and how often one was ended. */
  isRunning = false;
  ended = 0;
  autoKeep = 5;
  /** What a copy with memory finds; undefined for a cold sprite. */
  memory: StateMemory | undefined;
  /** The memory that the last replacement put in place. */
  placed: MemoryRecord | undefined;
  #fault: Fault | undefined;
  #gates = 0;
  #isDead = false;
  #death = Promise.withResolvers<void>();
  /** The present daemon's; a dead one's checks end with it. */
  #verifier: Verifier | undefined;

  private constructor(root: string) {
    this.root = root;
    this.sprite = withSpriteRow(this.database, "sprite");
    this.checkpoints = this.#compose();
  }

  static async open(): Promise<World> {
    const root = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-checkpoints-"));
    await fs.mkdir(path.join(root, "sprites", "sprite"), { recursive: true });
    const world = new World(root);
    await world.write("first");
    return world;
  }

  get records() {
    return new CheckpointRecords(this.database);
  }

  get files(): CheckpointFiles {
    return new CheckpointFiles({ pool: plainPool(this.root), root: path.join(this.root, "checkpoints") });
  }

  /** From now on gates are counted; the one of the fault fails. */
  arm(fault: Fault): void {
    this.#fault = fault;
    this.#gates = 0;
    this.#death = Promise.withResolvers();
  }

  disarm(): void {
    this.#fault = undefined;
  }

  /** Resolves when the armed fault has ended the daemon. */
  get died(): Promise<void> {
    return this.#death.promise;
  }

  /** Whether the armed fault was met. */
  get wasMet(): boolean {
    return this.#fault !== undefined && this.#gates > this.#fault.at;
  }

  /** Makes the sprite one that runs, in a VM of that build. */
  async run(build: string): Promise<void> {
    const directory = path.join(this.root, "running");
    await fs.mkdir(directory, { recursive: true });
    const [ramPath, statePath] = [path.join(directory, "ram"), path.join(directory, "state")];
    for (const file of [ramPath, statePath]) await fs.writeFile(file, `${path.basename(file)} of ${build}`);
    const record: MemoryRecord = {
      build,
      shape: { cpus: 1, memoryMib: 256 },
      storageGb: 1,
      network: false,
      system: "system",
      generation: 1,
      agentVersion: "1",
      ramOffset: 0,
      savedAtMs: 1,
    };
    this.memory = { ramPath, statePath, record };
  }

  /** A new daemon over the same files; what the old one still does reaches nothing. */
  async restart(): Promise<void> {
    this.#fault = undefined;
    this.#isDead = false;
    await this.#verifier?.close();
    this.checkpoints = this.#compose();
    await this.checkpoints.recover();
    this.checkpoints.resumeChecks();
  }

  /** What every use of the sprite's files begins with. */
  async use(): Promise<void> {
    const left = this.checkpoints.unsettled("sprite");
    if (left) await this.#replace(left.swap);
  }

  async write(text: string): Promise<void> {
    await fs.writeFile(this.diskPath, text);
  }

  async read(): Promise<string> {
    return await fs.readFile(this.diskPath, "utf8");
  }

  get diskPath(): string {
    return path.join(this.root, "sprites", "sprite", "disk.raw");
  }

  async contentOf(id: string): Promise<string> {
    return await fs.readFile(this.files.paths("sprite", id).diskPath, "utf8");
  }

  /** Names below the sprite's own directory and below its checkpoints. */
  async names(): Promise<{ own: string[]; checkpoints: string[] }> {
    return {
      own: (await fs.readdir(path.dirname(this.diskPath))).sort(),
      checkpoints: (await this.files.namesOf("sprite")).sort(),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fault = undefined;
    await this.checkpoints.close();
    this.database.close();
    await fs.rm(this.root, { recursive: true });
  }

  #compose(): Checkpoints {
    const isCurrent = (): boolean => this.checkpoints === composed;
    const gate = this.#gateOf(isCurrent);
    const pool = gated(plainPool(this.root), gate);
    const records = new CheckpointRecords(this.database);
    const files = gated(new CheckpointFiles({ pool, root: path.join(this.root, "checkpoints") }), gate);
    const parts: RestoreParts = {
      records: gatedSync(records, gate),
      files,
      pool,
      states: gated(this.#states(), gate),
      activities: new Activities({ nowMs: Date.now }),
      logger: silentLogger,
      nowMs: Date.now,
      spriteDirectory: (id) => path.join(this.root, "sprites", id),
    };
    const verifier = new Verifier({
      records,
      files: this.files,
      pool: plainPool(this.root),
      scratch: path.join(this.root, "scratch"),
      checkDisk: (file) => this.verdict(file),
      trialResume: () => this.trial(),
      parallel: 1,
      retryMs: 1,
      logger: silentLogger,
    });
    this.#verifier = verifier;
    const composed = new Checkpoints({
      parts,
      sprites: {
        get: () => ({ ...this.sprite, organizationSlug: "org", status: "cold", failure: undefined }),
        subscribe: () => () => {},
        idsOf: () => [],
        ids: () => ["sprite"],
      },
      verifier,
      scratch: path.join(this.root, "scratch"),
      autoKeep: this.autoKeep,
      vmmBuild: "build 1",
    });
    return composed;
  }

  #states(): SpriteStates {
    return {
      copy: async (_id, options, copy) => ({
        value: await copy({ diskPath: this.diskPath, memory: options.memory ? this.memory : undefined }),
        pausedMs: 1,
        release: async () => {},
      }),
      replace: (_id, swap) => this.#replace(swap),
      settle: () => this.use(),
    };
  }

  async #replace(swap: Replacement["swap"]): Promise<void> {
    this.ended += 1;
    this.isRunning = false;
    const memoryDirectory = path.join(path.dirname(this.diskPath), "memory");
    await fs.rm(memoryDirectory, { recursive: true, force: true });
    await fs.mkdir(memoryDirectory);
    const { memory, settled } = await swap({ diskPath: this.diskPath, memoryDirectory });
    this.placed = memory;
    settled?.();
  }

  #gateOf(isCurrent: () => boolean) {
    return (): "go" | "die" => {
      if (this.#isDead || !isCurrent()) return "die";
      if (!this.#fault) return "go";
      const at = this.#gates++;
      if (at < this.#fault.at || at >= this.#fault.at + (this.#fault.count ?? 1)) return "go";
      if (this.#fault.kind === "throw") throw new InjectedFault(`gate ${at}`);
      this.#isDead = true;
      this.#death.resolve();
      return "die";
    };
  }
}

type Gate = () => "go" | "die";

/** Every method passes the gate before it begins and after it ended. */
function gated<T extends object>(target: T, gate: Gate): T {
  return new Proxy(target, {
    get(_target, name) {
      const value = Reflect.get(target, name, target) as unknown;
      if (typeof value !== "function") return value;
      if (name === "paths") return value.bind(target) as unknown;
      return async (...args: unknown[]) => {
        if (gate() === "die") await new Promise(() => {});
        const result = (await (value as (...all: unknown[]) => unknown).apply(target, args)) as unknown;
        if (gate() === "die") await new Promise(() => {});
        return result;
      };
    },
  });
}

/** The same for calls that end at once; there a death shows at the next call that waits. */
function gatedSync<T extends object>(target: T, gate: Gate): T {
  return new Proxy(target, {
    get(_target, name) {
      const value = Reflect.get(target, name, target) as (...args: unknown[]) => unknown;
      return (...args: unknown[]) => {
        if (gate() === "die") throw new InjectedFault("the daemon is dead");
        return value.apply(target, args);
      };
    },
  });
}

/** Clones by copying. */
function plainPool(root: string): DiskPool {
  return {
    root,
    cloneKind: "reflink",
    reason: "files of a few bytes",
    clone: (source, target) => fs.copyFile(source, target),
    freeBytes: async () => 10 ** 12,
    requireSpace: async () => {},
    reserve: async () => {},
    giveBack: async () => {},
  };
}
