/**
 * A cgroup for each running command. Making one is slow, so those that are empty again are used
 * again; one that still has processes (a command left something running) is kept until it has none.
 */
import fs from "node:fs";
import path from "node:path";

/** Empty ones kept; more are removed. */
const FREE_MAX = 16;
/** Of those that were not empty, how many are looked at again for each new command. */
const LOOKS_PER_TAKE = 2;

/** One command's hold on a cgroup. */
export interface SessionCgroup {
  /** Descriptor of its directory. */
  readonly fd: number;
  /** Ends every process in it; nothing once another command has it. */
  killAll(): void;
}

interface Place {
  readonly directory: string;
  readonly fd: number;
  holder: SessionCgroup | undefined;
}

export class SessionCgroups {
  readonly #parent: string;
  readonly #pidsMax: number;
  #places = new Map<SessionCgroup, Place>();
  #free: Place[] = [];
  /** Released with processes in them, oldest first. */
  #lingering: Place[] = [];
  #isClosed = false;
  #next = 1;

  /** `parent`: directory of the cgroup below which they lie. */
  constructor(parent: string, pidsMax: number) {
    this.#parent = parent;
    this.#pidsMax = pidsMax;
    this.#free.push(this.#make());
  }

  take(): SessionCgroup {
    for (const place of this.#lingering.splice(0, LOOKS_PER_TAKE)) this.#giveBack(place);
    const place = this.#free.pop() ?? this.#make();
    const holder: SessionCgroup = {
      fd: place.fd,
      killAll: () => {
        if (place.holder === holder && !this.#isClosed) fs.writeFileSync(path.join(place.directory, "cgroup.kill"), "1");
      },
    };
    place.holder = holder;
    this.#places.set(holder, place);
    return holder;
  }

  /** Gives one back when its command has ended. */
  release(cgroup: SessionCgroup): void {
    const place = this.#places.get(cgroup);
    if (!place || this.#isClosed) return;
    this.#places.delete(cgroup);
    this.#giveBack(place);
  }

  /** Lets go of all; their directories go with the environment's. */
  close(): void {
    this.#isClosed = true;
    for (const place of [...this.#free, ...this.#lingering, ...this.#places.values()]) fs.closeSync(place.fd);
  }

  #giveBack(place: Place): void {
    if (isPopulated(place.directory)) {
      this.#lingering.push(place);
      return;
    }
    place.holder = undefined;
    if (this.#free.length < FREE_MAX) {
      this.#free.push(place);
      return;
    }
    fs.closeSync(place.fd);
    fs.rmdirSync(place.directory);
  }

  #make(): Place {
    const directory = path.join(this.#parent, String(this.#next));
    this.#next += 1;
    fs.mkdirSync(directory);
    fs.writeFileSync(path.join(directory, "pids.max"), String(this.#pidsMax));
    return { directory, fd: fs.openSync(directory, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY), holder: undefined };
  }
}

function isPopulated(directory: string): boolean {
  return fs.readFileSync(path.join(directory, "cgroup.events"), "utf8").includes("populated 1");
}
