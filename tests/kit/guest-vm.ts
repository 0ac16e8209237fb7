/**
 * A real VM with the real agent and nothing of the daemon above the guest link: booted once,
 * snapshot, then resumed as often as a test wants, each time with the disk it left.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { run, Scope, silentLogger } from "@sprited/base";
import { awaitIdle, bootstrapGuest, type GuestCarrier, type GuestLink, openLink, vmSpec } from "@sprited/daemon";
import { findQemu, loadSystem } from "@sprited/disk";
import { BOOT_PORT, LINK_PORT, MANAGEMENT_NETWORK, USER_NETWORK } from "@sprited/protocol/guest";
import { type MemorySnapshot, type NetworkSlot, openNetworkSlots, openQemuDriver, type VmmDriver, type VmProcess } from "@sprited/vmm";
import { bootstrapFor, newKey } from "./bare-guest.ts";
import { findFreeRange } from "./free-range.ts";
import { cloneHome, type TestHome } from "./prepared-home.ts";

/** A boot under emulation on a busy host, ms. */
const BOOT_TIMEOUT_MS = 240_000;
const LINK_TIMEOUT_MS = 60_000;
const SHAPE = { cpus: 1, memoryMib: 512 };

export interface GuestVmOptions {
  /** Leaves the VM without network cards: the link goes over the serial port. */
  serial?: boolean;
}

/** Times of the last steps, ms. */
export interface GuestVmTimes {
  bootMs: number;
  resumeMs: number;
  bootstrapMs: number;
  linkMs: number;
}

/** What every VM of one test has in common. */
type FixedSpec = Omit<Parameters<typeof vmSpec>[0], "memory" | "directory" | "incarnation">;

export class GuestVm implements AsyncDisposable {
  readonly times: GuestVmTimes = { bootMs: 0, resumeMs: 0, bootstrapMs: 0, linkMs: 0 };
  readonly #scope: Scope;
  readonly #home: TestHome;
  readonly #driver: VmmDriver;
  readonly #slot: NetworkSlot | undefined;
  readonly #spec: FixedSpec;
  #snapshot: MemorySnapshot | undefined;
  #vm: VmProcess | undefined;
  #link: GuestLink | undefined;

  private constructor(scope: Scope, home: TestHome, driver: VmmDriver, spec: FixedSpec) {
    this.#scope = scope;
    this.#home = home;
    this.#driver = driver;
    this.#slot = spec.slot;
    this.#spec = spec;
  }

  /** Boots a VM of the smallest form and keeps its boot snapshot. Nothing runs yet. */
  static async open(options: GuestVmOptions = {}): Promise<GuestVm> {
    await using scope = new Scope("guest VM");
    const home = await cloneHome();
    scope.defer("test home", () => home.remove());
    const { layout } = home;
    const system = await loadSystem(layout);
    const qemu = await findQemu(layout);
    if (!system || !qemu) throw new Error("the prepared home has no system image or no QEMU");
    const driver = await openQemuDriver({
      program: { path: qemu.programPath, dataPaths: qemu.dataPaths },
      version: qemu.version,
      accelerator: { kind: "tcg", reason: "tests" },
      logger: silentLogger,
    });
    let slot: NetworkSlot | undefined;
    if (options.serial !== true) {
      const slots = await openNetworkSlots({
        home: layout.root,
        layout: { management: MANAGEMENT_NETWORK, user: USER_NETWORK },
        spare: 0,
        subnet: await findFreeRange(process.pid),
        log: silentLogger,
      });
      scope.defer("network slots", () => slots.close());
      const taken = await slots.acquire();
      scope.defer("network slot", () => slots.release(taken));
      slot = taken;
    }
    const diskPath = path.join(layout.pool, "disk.raw");
    await copyDisk(await findImage(layout.images), diskPath);
    if (slot) for (const file of [diskPath, layout.bootSnapshots, layout.pool]) await fs.chown(file, slot.uid, slot.gid);
    await fs.mkdir(layout.run, { recursive: true, mode: 0o711 });
    const vm = new GuestVm(scope.move(), home, driver, { shape: SHAPE, system, diskPath, slot });
    await vm.#boot();
    return vm;
  }

  /** The open link of the running VM. */
  get link(): GuestLink {
    if (!this.#link) throw new Error("the VM is not running");
    return this.#link;
  }

  /** Resumes the boot snapshot with the disk as it is, and greets the agent. */
  async start(): Promise<void> {
    if (!this.#snapshot) throw new Error("not booted");
    const startedMs = performance.now();
    this.#vm = await this.#startVm({ kind: "snapshot", snapshot: this.#snapshot, mapping: "private" });
    const resumedMs = performance.now();
    this.times.resumeMs = Math.round(resumedMs - startedMs);
    const key = newKey();
    const carrier = this.#carrier(this.#vm);
    const opening = openLink(carrier, key, { timeoutMs: LINK_TIMEOUT_MS });
    opening.catch(() => {});
    await bootstrapGuest(
      carrier,
      bootstrapFor(key, { identity: { hostname: "guest-vm", machine_id: randomBytes(16).toString("hex"), renew: true } }),
      { timeoutMs: LINK_TIMEOUT_MS },
    );
    this.times.bootstrapMs = Math.round(performance.now() - resumedMs);
    this.#link = await opening;
    this.times.linkMs = Math.round(performance.now() - resumedMs);
  }

  /** Ends the VM at once, as a power cut would. The disk stays. */
  async cut(): Promise<void> {
    await this.#link?.[Symbol.asyncDispose]();
    this.#link = undefined;
    await this.#vm?.kill();
    await this.#vm?.dispose();
    this.#vm = undefined;
  }

  /** Puts the image's disk back. Only while the VM does not run. */
  async restoreDisk(): Promise<void> {
    const { diskPath } = this.#spec;
    await copyDisk(await findImage(this.#home.layout.images), diskPath);
    if (this.#slot) await fs.chown(diskPath, this.#slot.uid, this.#slot.gid);
  }

  async console(): Promise<string> {
    return (await this.#vm?.console()) ?? "";
  }

  /** Id of the VMM process. */
  get pid(): number {
    return this.#vm?.pid ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cut();
    await this.#scope[Symbol.asyncDispose]();
  }

  async #boot(): Promise<void> {
    const startedMs = performance.now();
    const { bootSnapshots } = this.#home.layout;
    const vm = await this.#startVm({ kind: "fresh", path: path.join(bootSnapshots, "ram") });
    this.#vm = vm;
    try {
      await awaitIdle({ openBootPort: (call) => vm.openPort(BOOT_PORT, call) }, { timeoutMs: BOOT_TIMEOUT_MS });
    } catch (error) {
      throw new Error(`the guest did not come up; its console: ${await vm.console()}`, { cause: error });
    }
    this.times.bootMs = Math.round(performance.now() - startedMs);
    await vm.pause();
    this.#snapshot = await vm.saveState(path.join(bootSnapshots, "state"));
    await this.cut();
  }

  async #startVm(memory: Parameters<typeof vmSpec>[0]["memory"]): Promise<VmProcess> {
    const incarnation = randomBytes(6).toString("hex");
    return await this.#driver.start(
      vmSpec({ ...this.#spec, incarnation, directory: path.join(this.#home.layout.run, incarnation), memory }),
    );
  }

  #carrier(vm: VmProcess): GuestCarrier {
    const slot = this.#slot;
    return {
      openBootPort: (call) => vm.openPort(BOOT_PORT, call),
      link: slot ? { kind: "tcp", ...slot.agentAddress } : { kind: "serial", open: (call) => vm.openPort(LINK_PORT, call) },
    };
  }
}

/** The disk in the image's own size, small enough to be filled by a test. */
async function copyDisk(image: string, diskPath: string): Promise<void> {
  await run("cp", ["--reflink=auto", "--sparse=always", image, diskPath]);
  await fs.chmod(diskPath, 0o600);
}

/** The smallest image's disk as it was built. */
async function findImage(images: string): Promise<string> {
  for (const digest of await fs.readdir(images)) {
    const record = await fs.readFile(path.join(images, digest, "image.json"), "utf8").catch(() => "");
    if (record.includes('"minimal"')) return path.join(images, digest, "image.raw");
  }
  throw new Error("the prepared home has no image `minimal`");
}
