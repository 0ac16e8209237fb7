/**
 * The whole daemon in this process over the simulated VMM: real store, lifecycle, link, exec and
 * API; a real agent that runs commands on this host as the current user. Fast, isolates nothing.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { Duplex } from "node:stream";
import { type Logger, Scope, silentLogger } from "@sprited/base";
import { type DiskPool, type HomeLayout, homeLayout, type ImageRecord, type ImageStore } from "@sprited/disk";
import { composeFeatures, type Features, type FeatureSettings, type HostParts, startApiServer } from "@sprited/daemon";
import { DiskError } from "@sprited/disk";
import { type GuestSurroundings, openSimulatedDriver, type RunningGuest, SimulatedHost } from "@sprited/vmm";
import { startBareAgent } from "@sprited/agent/bare";
import { BOOT_PORT, LINK_PORT } from "@sprited/protocol/guest";
import { ask } from "./http.ts";
import { LoopbackSlots } from "./loopback-slots.ts";
import { withSocketPorts } from "./socket-ports.ts";
import type { Target } from "./target.ts";

/** The guest's ends of the ports. */
export interface GuestPorts {
  boot: Duplex;
  link: Duplex;
}

export interface SimulatedOptions {
  /** What runs in each VM; the real agent when left out. `route` says where its link listens. */
  guest?: (ports: GuestPorts, route: (address: { host: string; port: number }) => void) => Promise<RunningGuest>;
  /** Offers control connections. */
  control?: boolean;
  /** Silence after which a sign of life is sent, ms. */
  keepAliveMs?: number;
  timeouts?: Partial<{ bootMs: number; resumeMs: number; guestCallMs: number; stopMs: number }>;
  /** How the daemon reaches agents. Default `tcp`, as on hosts with taps. */
  carrier?: "tcp" | "serial";
  /** What a clone throws instead of cloning. */
  cloneFault?: () => Error | undefined;
  /** The check of checkpoints; passes when left out. */
  checkDisk?: (file: string) => Promise<{ healthy: boolean; detail: string }>;
  /** Idle times, ms; sprites never sleep by themselves when left out. */
  idle?: { idleMs: number; hibernateAfterMs: number };
  /** Machines that start at the same time; any number when left out. */
  startsParallel?: number;
  logger?: Logger;
  jobs?: FeatureSettings["jobs"];
  exec?: FeatureSettings["exec"];
}

export interface SimulatedTarget extends Target, AsyncDisposable {
  kind: "simulated";
  features: Features;
  host: SimulatedHost;
  layout: HomeLayout;
  /** Closes the daemon and starts another on the same home, at the same address; VMs and commands run on. */
  restart(): Promise<void>;
}

/** Starts it; disposing ends every VM and command and removes the home. */
export async function openSimulated(options: SimulatedOptions = {}): Promise<SimulatedTarget> {
  await using scope = new Scope("simulated daemon");
  const root = await mkdtemp(path.join(os.tmpdir(), "sprited-sim-"));
  scope.defer("home", () => rm(root, { recursive: true, force: true }));
  const layout = homeLayout(root);
  for (const directory of [layout.pool, layout.images, layout.bootSnapshots, layout.sprites, layout.run])
    await fs.mkdir(directory, { recursive: true });
  const logger = options.logger ?? silentLogger;
  const userHome = path.join(root, "user");
  await fs.mkdir(userHome);
  const slots = options.carrier === "serial" ? undefined : scope.use("slots", new LoopbackSlots());
  const guest: NonNullable<SimulatedOptions["guest"]> =
    options.guest ??
    (async (ports, route) => {
      const agent = await startBareAgent({ bootPort: ports.boot, linkPort: ports.link, home: userHome });
      route(agent.address);
      return {
        setPaused: (isPaused) => agent.setStopped(isPaused),
        [Symbol.asyncDispose]: () => agent[Symbol.asyncDispose](),
      };
    });
  const host = new SimulatedHost();
  const driver = openSimulatedDriver({
    host,
    guest: async (surroundings) => {
      let address: { host: string; port: number } | undefined;
      const route = ({ incarnation }: GuestSurroundings): void => {
        const spec = host.running().find((machine) => machine.spec.incarnation === incarnation)?.spec;
        if (spec && address) slots?.route(spec, address);
      };
      const running = await guest(portsOf(surroundings), (found) => {
        address = found;
        route(surroundings);
      });
      return {
        setPaused: (isPaused) => running.setPaused?.(isPaused),
        // Another machine has another place on the network.
        resumed: route,
        [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
      };
    },
  });
  scope.defer("VMs", () => host.close());
  const parts: HostParts = {
    layout,
    driver: options.carrier === "serial" ? withSocketPorts(driver, root) : driver,
    slots,
    pool: copyingPool(layout.pool, options.cloneFault),
    images: await oneImage(layout.images),
    isolate: (same) => same,
    checkDisk: options.checkDisk ?? (async () => ({ healthy: true, detail: "" })),
    system: { digest: "simulated", kernelPath: "/dev/null", initrdPath: "/dev/null", systemPath: "/dev/null" },
  };
  const serve = (port: number): Promise<Served> => serveDaemon(parts, { ...options, logger, port });
  let served = await serve(0);
  scope.defer("daemon", () => served.close());
  const target = {
    kind: "simulated" as const,
    baseUrl: served.url,
    token: (await readFile(layout.tokenPath, "utf8")).trim(),
    organization: "",
  };
  const { organization } = (await ask(target, "/v1/organization")).json() as { organization: { slug: string } };
  const owned = scope.move();
  return {
    ...target,
    organization: organization.slug,
    get features() {
      return served.features;
    },
    host,
    layout,
    restart: async () => {
      await served.close();
      served = await serve(Number(new URL(target.baseUrl).port));
    },
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

interface Served {
  features: Features;
  url: string;
  close(): Promise<void>;
}

/** Features and API of one daemon's life. */
async function serveDaemon(parts: HostParts, options: SimulatedOptions & { logger: Logger; port: number }): Promise<Served> {
  const { logger } = options;
  await using scope = new Scope("daemon");
  const settings: FeatureSettings = {
    defaults: { cpus: 1, memoryMib: 256, storageGb: 1, imageName: "minimal" },
    limits: { cpusMax: 8, memoryMibMax: 16_384, storageGbMin: 1, storageGbMax: 1000 },
    timeouts: { bootMs: 20_000, resumeMs: 20_000, guestCallMs: 10_000, stopMs: 5_000, ...options.timeouts },
    ...(options.jobs ? { jobs: options.jobs } : {}),
    rest: { idle: options.idle ?? { idleMs: 0, hibernateAfterMs: 0 }, startsParallel: options.startsParallel },
    ...(options.exec ? { exec: options.exec } : {}),
  };
  const features = await composeFeatures(parts, settings, { logger });
  scope.defer("features", () => features.close());
  await features.recover();
  const api = await startApiServer({
    listen: { host: "127.0.0.1", port: options.port },
    features,
    logger,
    version: "0.1.0",
    spriteDomain: "localhost",
    ...(options.control === undefined ? {} : { control: options.control }),
    ...(options.keepAliveMs === undefined ? {} : { timings: { keepAliveMs: options.keepAliveMs } }),
  });
  scope.defer("API", () => api.close({ drainMs: 100 }));
  const owned = scope.move();
  return { features, url: api.url, close: () => owned[Symbol.asyncDispose]() };
}

function portsOf({ ports }: GuestSurroundings): GuestPorts {
  const boot = ports.get(BOOT_PORT);
  const link = ports.get(LINK_PORT);
  if (!boot || !link) throw new Error("the VM lacks a port");
  return { boot, link };
}

/** Clones by copying: test disks are a few bytes. */
function copyingPool(root: string, fault: (() => Error | undefined) | undefined): DiskPool {
  return {
    root,
    cloneKind: "copy",
    reason: "test disks are a few bytes",
    clone: async (source, target) => {
      const error = fault?.();
      if (error) throw error;
      await fs.copyFile(source, target);
    },
    freeBytes: async () => 10 ** 12,
    requireSpace: async () => {},
    reserve: async () => {},
    giveBack: async () => {},
  };
}

async function oneImage(directory: string): Promise<ImageStore> {
  const record: ImageRecord = {
    name: "minimal",
    digest: "0".repeat(64),
    directory,
    builtAt: "2026-01-01T00:00:00.000Z",
    manifestPath: path.join(directory, "manifest.json"),
    contentBytes: 1,
  };
  const disk = path.join(directory, "image.raw");
  await writeFile(disk, "x");
  const find = async (name: string): Promise<ImageRecord | undefined> => (name === record.name ? record : undefined);
  return {
    list: async () => [record],
    find,
    get: async (name) => {
      const found = await find(name);
      if (!found) throw new DiskError("disk_image_unknown", `there is no image ${JSON.stringify(name)}`);
      return found;
    },
    byDigest: async () => record,
    build: async () => record,
    disk: async () => disk,
  };
}
