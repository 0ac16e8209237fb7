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
import { composeFeatures, type Features, startApiServer } from "@sprited/daemon";
import { DiskError } from "@sprited/disk";
import { type GuestSurroundings, openSimulatedDriver, SimulatedHost } from "@sprited/vmm";
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
  guest?: (ports: GuestPorts, route: (address: { host: string; port: number }) => void) => Promise<AsyncDisposable>;
  /** Silence after which a sign of life is sent, ms. */
  keepAliveMs?: number;
  timeouts?: Partial<{ bootMs: number; resumeMs: number; guestCallMs: number; stopMs: number }>;
  /** How the daemon reaches agents. Default `tcp`, as on hosts with taps. */
  carrier?: "tcp" | "serial";
  /** What a clone throws instead of cloning. */
  cloneFault?: () => Error | undefined;
  /** The check of checkpoints; passes when left out. */
  checkDisk?: (file: string) => Promise<{ healthy: boolean; detail: string }>;
  logger?: Logger;
}

export interface SimulatedTarget extends Target, AsyncDisposable {
  kind: "simulated";
  features: Features;
  host: SimulatedHost;
  layout: HomeLayout;
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
      return agent;
    });
  const host = new SimulatedHost();
  const driver = openSimulatedDriver({
    host,
    guest: async (surroundings) => {
      const spec = host.running().find((machine) => machine.spec.incarnation === surroundings.incarnation)?.spec;
      return await guest(portsOf(surroundings), (address) => spec && slots?.route(spec, address));
    },
  });
  scope.defer("VMs", async () => {
    for (const machine of host.running()) await host.crash(machine.spec.incarnation);
  });
  const features = await composeFeatures(
    {
      layout,
      driver: options.carrier === "serial" ? withSocketPorts(driver, root) : driver,
      slots,
      pool: copyingPool(layout.pool, options.cloneFault),
      images: await oneImage(layout.images),
      checkDisk: options.checkDisk ?? (async () => ({ healthy: true, detail: "" })),
      system: { digest: "simulated", kernelPath: "/dev/null", initrdPath: "/dev/null", systemPath: "/dev/null" },
    },
    {
      defaults: { cpus: 1, memoryMib: 256, storageGb: 1, imageName: "minimal" },
      limits: { cpusMax: 8, memoryMibMax: 16_384, storageGbMin: 1, storageGbMax: 1000 },
      timeouts: { bootMs: 20_000, resumeMs: 20_000, guestCallMs: 10_000, stopMs: 5_000, ...options.timeouts },
    },
    { logger },
  );
  scope.defer("features", () => features.close());
  await features.recover();
  const api = await startApiServer({
    listen: { host: "127.0.0.1", port: 0 },
    features,
    logger,
    version: "0.1.0",
    spriteDomain: "localhost",
    ...(options.keepAliveMs === undefined ? {} : { timings: { keepAliveMs: options.keepAliveMs } }),
  });
  scope.defer("API", () => api.close({ drainMs: 100 }));
  const target = {
    kind: "simulated" as const,
    baseUrl: api.url,
    token: (await readFile(layout.tokenPath, "utf8")).trim(),
    organization: "",
  };
  const { organization } = (await ask(target, "/v1/organization")).json() as { organization: { slug: string } };
  const owned = scope.move();
  return { ...target, organization: organization.slug, features, host, layout, [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose]() };
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
