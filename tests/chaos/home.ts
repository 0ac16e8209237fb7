/**
 * A home in memory on a simulated host, and the daemons that live and die on it one after another.
 * Guests, slots and processes are the host's and outlive every daemon.
 */
import { existsSync } from "node:fs";
import fs, { readFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { Scope, silentLogger } from "@sprited/base";
import { composeFeatures, type Features, type FeatureSettings, type HostParts } from "@sprited/daemon";
import {
  asDiskError,
  type DiskPool,
  type HomeLayout,
  homeLayout,
  type ImageRecord,
  type ImageStore,
  syncDirectory,
  syncFile,
  tempBeside,
} from "@sprited/disk";
import {
  type GuestSurroundings,
  openSimulatedDriver,
  type RunningGuest,
  SimulatedHost,
  type VmmDriver,
  type VmProcess,
} from "@sprited/vmm";
import { ChaosSlots } from "../kit/chaos-slots.ts";
import { LightGuest } from "../kit/light-guest.ts";
import { installMortality, Mortal, outside, thisProgram } from "../kit/mortal.ts";
import type { Random } from "../kit/random.ts";
import { UnsyncedFiles } from "../kit/unsynced-files.ts";

/** What of a file is copied; the rest of it is empty. */
const CONTENT_BYTES_MAX = 64 * 1024;

const SETTINGS: FeatureSettings = {
  defaults: { cpus: 1, memoryMib: 32, storageGb: 1, imageName: "minimal" },
  limits: { cpusMax: 8, memoryMibMax: 16_384, storageGbMin: 1, storageGbMax: 1000 },
  timeouts: { bootMs: 5_000, resumeMs: 5_000, guestCallMs: 5_000, stopMs: 1_000 },
};

/** One daemon's life. */
export interface Daemon {
  program: Mortal;
  features: Features;
  organizationId: string;
}

export class ChaosHome implements AsyncDisposable {
  readonly host = new SimulatedHost();
  readonly slots = new ChaosSlots();
  readonly layout: HomeLayout;
  readonly #unsynced: UnsyncedFiles;
  readonly #scope: Scope;

  private constructor(layout: HomeLayout, unsynced: UnsyncedFiles, scope: Scope) {
    this.layout = layout;
    this.#unsynced = unsynced;
    this.#scope = scope;
  }

  static async open(): Promise<ChaosHome> {
    await installMortality();
    await using scope = new Scope("chaos home");
    const root = await fs.mkdtemp(path.join(existsSync("/dev/shm") ? "/dev/shm" : os.tmpdir(), "sprited-chaos-"));
    scope.defer("home", () => fs.rm(root, { recursive: true, force: true }));
    const layout = homeLayout(root);
    for (const directory of [layout.pool, layout.images, layout.bootSnapshots, layout.sprites, layout.run])
      await fs.mkdir(directory, { recursive: true });
    await fs.mkdir(imageDirectory(layout));
    await fs.writeFile(path.join(imageDirectory(layout), "image.raw"), "0");
    const trash = `${root}.trash`;
    const unsynced = new UnsyncedFiles(root, trash);
    scope.defer("trash", () => fs.rm(trash, { recursive: true, force: true }));
    const home = new ChaosHome(layout, unsynced, scope.move());
    home.#scope.defer("slots", () => home.slots.close());
    home.#scope.defer("VMs", () => home.host.close());
    return home;
  }

  /** A program that is to be a daemon here. */
  newProgram(): Mortal {
    return new Mortal(this.#unsynced);
  }

  /**
   * What a dead daemon leaves: with it died the host when the power was cut. Returns what was lost
   * of what had not been flushed.
   */
  async afterDeath({ isPowerCut }: Mortal, random: Random): Promise<string[]> {
    if (!isPowerCut) {
      this.#unsynced.settle();
      return [];
    }
    for (const machine of this.host.running()) await this.host.crash(machine.spec.incarnation);
    this.slots.close();
    return this.#unsynced.cut(random);
  }

  /** Starts a daemon on what lies there. Its start may be cut short by a fault: then it is dead. */
  async start(program: Mortal): Promise<Daemon | undefined> {
    await this.#disownTempNames();
    const outcome = await program.ask(async () => {
      const features = await composeFeatures(this.#parts(), SETTINGS, { logger: silentLogger });
      await features.recover();
      const token = (await readFile(this.layout.tokenPath, "utf8")).trim();
      return { features, organizationId: features.organizations.authenticate(token).organizationId };
    });
    if (outcome.kind === "failed") throw outcome.error;
    return outcome.kind === "died" ? undefined : { program, ...outcome.value };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scope[Symbol.asyncDispose]();
  }

  #parts(): HostParts {
    const { layout } = this;
    return {
      layout,
      driver: this.#driver(),
      slots: this.slots.forDaemon(),
      pool: contentPool(layout.pool),
      images: oneImage(imageDirectory(layout)),
      isolate: (same) => same,
      checkDisk: async () => ({ healthy: true, detail: "" }),
      system: { digest: "simulated", kernelPath: "/dev/null", initrdPath: "/dev/null", systemPath: "/dev/null" },
    };
  }

  #driver(): VmmDriver {
    const driver = openSimulatedDriver({ host: this.host, guest: (surroundings) => outside(() => this.#boot(surroundings)) });
    return {
      ...driver,
      start: async (spec, options) => closingPorts(await driver.start(spec, options)),
      adopt: async (directory) => {
        const vm = await driver.adopt(directory);
        return vm && closingPorts(vm);
      },
    };
  }

  async #boot(surroundings: GuestSurroundings): Promise<RunningGuest> {
    const guest = new LightGuest(surroundings, (disk) => this.#unsynced.synced(disk));
    const route = ({ incarnation }: GuestSurroundings): void => {
      const machine = this.host.running().find(({ spec }) => spec.incarnation === incarnation);
      if (machine) this.slots.route(machine.spec, (socket) => guest.serve(socket));
    };
    route(surroundings);
    return {
      setPaused: (isPaused) => guest.setPaused(isPaused),
      resumed: (next) => {
        guest.resumed(next);
        route(next);
      },
      [Symbol.asyncDispose]: () => guest[Symbol.asyncDispose](),
    };
  }

  /** A daemon in this process shares its mark of temporary names with the ones before, which are dead. */
  async #disownTempNames(): Promise<void> {
    for (const entry of await fs.readdir(this.layout.root, { recursive: true, withFileTypes: true })) {
      if (!entry.name.includes(".making-")) continue;
      const from = path.join(entry.parentPath, entry.name);
      await fs.rename(from, from.replace(/\.making-\d+-[0-9a-f]{8}/, ".making-4194304-00000000"));
    }
  }
}

/** Ports close with the daemon that opened them, and as soon as it has written all. */
function closingPorts(vm: VmProcess): VmProcess {
  const open = vm.openPort.bind(vm);
  vm.openPort = async (name, options) => {
    const program = thisProgram();
    const port = await open(name, options);
    if (program?.isDead) port.destroy();
    program?.holdSocket(port);
    port.once("finish", () => port.destroy());
    return port;
  };
  return vm;
}

/** Clones what guests can have written; RAM is empty beyond it. Atomic and durable as a real pool is. */
function contentPool(root: string): DiskPool {
  return {
    root,
    cloneKind: "reflink",
    reason: "test disks are a few bytes",
    clone: async (source, target, { durable = true } = {}) => {
      const temp = tempBeside(target);
      try {
        await copyContent(source, temp);
        if (durable) await syncFile(temp);
        await fs.rename(temp, target);
        if (durable) await syncDirectory(path.dirname(target));
      } catch (error) {
        await fs.rm(temp, { force: true });
        throw asDiskError(error, `cloning ${path.basename(source)}`);
      }
    },
    freeBytes: async () => 10 ** 12,
    requireSpace: async () => {},
    reserve: async () => {},
    giveBack: async () => {},
  };
}

async function copyContent(source: string, target: string): Promise<void> {
  await using from = await fs.open(source, "r");
  const { size } = await from.stat();
  const { buffer, bytesRead } = await from.read(Buffer.alloc(CONTENT_BYTES_MAX), 0, CONTENT_BYTES_MAX, 0);
  await using to = await fs.open(target, "wx", 0o600);
  await to.write(buffer, 0, bytesRead);
  await to.truncate(size);
}

const IMAGE_DIGEST = "0".repeat(64);

function imageDirectory(layout: HomeLayout): string {
  return path.join(layout.images, IMAGE_DIGEST);
}

function oneImage(directory: string): ImageStore {
  const record: ImageRecord = {
    name: "minimal",
    digest: IMAGE_DIGEST,
    directory,
    builtAt: "2026-01-01T00:00:00.000Z",
    manifestPath: path.join(directory, "manifest.json"),
    contentBytes: 1,
  };
  return {
    list: async () => [record],
    find: async () => record,
    get: async () => record,
    byDigest: async () => record,
    build: async () => record,
    disk: async () => path.join(directory, "image.raw"),
  };
}
