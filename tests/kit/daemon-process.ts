/**
 * A real daemon in a process of its own, with a home of its own: started, killed and restarted
 * like a user would, seen only through its API, its log and the host. `SPRITED_TEST_LOGS` names
 * a directory that keeps the logs.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import fs from "node:fs/promises";
import net from "node:net";
import path from "node:path";
import { ignore, waitFor } from "@sprited/base";
import { sweepAbandonedHomes } from "./abandoned-homes.ts";
import { findFreeRange } from "./free-range.ts";
import { ask } from "./http.ts";
import { expectNoTraces, hostTraces, signalIfThere, sweepHost, vmPidsOf } from "./host-traces.ts";
import { cloneHome, preparedAccelerator, preparedStorageGb, TEST_IMAGE, type TestHome } from "./prepared-home.ts";
import { sdkOf, type Target } from "./target.ts";

const REPOSITORY = path.resolve(import.meta.dirname, "..", "..");
const SPRITED = path.join(REPOSITORY, "packages/daemon/bin/sprited");
/** From spawn to `/healthz` 200, ms; a boot snapshot may be made on the way. */
const START_TIMEOUT_MS = 180_000;
/** An orderly stop, ms. */
const STOP_TIMEOUT_MS = 40_000;

/** Small VMs: emulation on a shared host is slow and every MiB is copied once. */
const SMALL: Record<string, string> = {
  SPRITED_SPRITE_CPUS: "1",
  SPRITED_SPRITE_MEMORY_MB: "512",
  SPRITED_SPRITE_IMAGE: TEST_IMAGE,
  SPRITED_DISK_FREE_FLOOR_GB: "1",
  // Tests that look at VMs want them to stay; those of sleep say when.
  SPRITED_SPRITE_IDLE_SECONDS: "0",
  SPRITED_LOG_LEVEL: "debug",
};

export interface DaemonOptions {
  /** Settings beside or instead of the small defaults, as environment variables. */
  environment?: Record<string, string>;
  /** A home that exists; a clone of the prepared one when left out. */
  home?: TestHome;
  /** What its sprites are made of; the small test image when left out. */
  image?: string;
}

export class DaemonProcess implements Target, AsyncDisposable {
  readonly kind = "vm";
  organization = "";
  readonly home: TestHome;
  readonly baseUrl: string;
  token = "";
  readonly #environment: Record<string, string>;
  #pid: number | undefined;

  private constructor(home: TestHome, port: number, environment: Record<string, string>) {
    this.home = home;
    this.baseUrl = `http://127.0.0.1:${port}`;
    this.#environment = {
      PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: process.env["HOME"] ?? "/root",
      ...SMALL,
      ...environment,
      SPRITED_HOME: home.layout.root,
      SPRITED_LISTEN: `127.0.0.1:${port}`,
    };
  }

  static async open(options: DaemonOptions = {}): Promise<DaemonProcess> {
    await sweepAbandonedHomes();
    const home = options.home ?? (await cloneHome({ image: options.image }));
    const [accelerator, storageGb] = [await preparedAccelerator(), await preparedStorageGb(options.image)];
    const daemon = new DaemonProcess(home, await freePort(), {
      ...(await networkOf(home.id)),
      ...(accelerator === undefined ? {} : { SPRITED_VMM_ACCELERATOR: accelerator }),
      ...(storageGb === undefined ? {} : { SPRITED_SPRITE_STORAGE_GB: String(storageGb) }),
      ...(options.image === undefined ? {} : { SPRITED_SPRITE_IMAGE: options.image }),
      ...options.environment,
    });
    try {
      await daemon.start();
    } catch (error) {
      await daemon[Symbol.asyncDispose]();
      throw error;
    }
    return daemon;
  }

  /** The daemon's process id. */
  get pid(): number {
    if (this.#pid === undefined) throw new Error("the daemon does not run");
    return this.#pid;
  }

  get isRunning(): boolean {
    return this.#pid !== undefined && isAlive(this.#pid);
  }

  /** Starts the program without waiting for it. */
  launch(): void {
    const log = openSync(path.join(this.home.layout.root, "daemon.out"), "a");
    const child = spawn(SPRITED, ["serve"], { cwd: REPOSITORY, env: this.#environment, detached: true, stdio: ["ignore", log, log] });
    closeSync(log);
    child.on("error", () => {}); // seen as a daemon that is not ready
    child.unref();
    this.#pid = child.pid;
  }

  /** Starts the program and waits until it answers. */
  async start(): Promise<void> {
    this.launch();
    await waitFor("the daemon to be ready", { timeoutMs: START_TIMEOUT_MS, everyMs: 50 }, async () => {
      if (!this.isRunning) throw new Error(`the daemon ended while starting:\n${await this.log()}`);
      const answer = await ask(this, "/healthz", { token: null }).catch(ignore("not listening yet"));
      return answer?.status === 200;
    }).catch(async (error: unknown) => {
      throw new Error(`the daemon did not start:\n${(await this.log()).slice(-4000)}`, { cause: error });
    });
    this.token = (await fs.readFile(this.home.layout.tokenPath, "utf8")).trim();
    this.organization = ((await ask(this, "/v1/organization")).json()["organization"] as { slug: string }).slug;
  }

  /** Ends the daemon as Ctrl-C or a service manager does. */
  async stop(signal: "SIGINT" | "SIGTERM" = "SIGTERM"): Promise<void> {
    const pid = this.#pid;
    if (pid === undefined || !isAlive(pid)) return;
    signalIfThere(pid, signal);
    await waitFor("the daemon's end", { timeoutMs: STOP_TIMEOUT_MS, everyMs: 20 }, () => !isAlive(pid));
    this.#pid = undefined;
  }

  /** kill -9. */
  async kill(): Promise<void> {
    const pid = this.#pid;
    if (pid === undefined) return;
    signalIfThere(pid, "SIGKILL");
    await waitFor("the daemon's death", { timeoutMs: STOP_TIMEOUT_MS, everyMs: 5 }, () => !isAlive(pid));
    this.#pid = undefined;
  }

  /** kill -9 of every VM of this daemon, as a host's crash would; returns how many there were. */
  async killVms(): Promise<number> {
    const pids = await vmPidsOf(this.home);
    for (const pid of pids) signalIfThere(pid, "SIGKILL");
    await waitFor("the VMs' death", { timeoutMs: STOP_TIMEOUT_MS }, () => !pids.some(isAlive));
    return pids.length;
  }

  async vmPids(): Promise<number[]> {
    return await vmPidsOf(this.home);
  }

  /** Everything the daemon printed and logged. */
  async log(): Promise<string> {
    return await fs.readFile(path.join(this.home.layout.root, "daemon.out"), "utf8").catch(() => "");
  }

  /** Deletes every sprite of the organization through the API. */
  async deleteSprites(): Promise<void> {
    const client = sdkOf(this, { timeout: 120_000 });
    for (const sprite of await client.listAllSprites()) await client.deleteSprite(sprite.name);
  }

  /**
   * The orderly end of a test file: sprites deleted, daemon stopped, then nothing of this home
   * may be left on the host.
   */
  async closeClean(): Promise<void> {
    if (!this.isRunning) await this.start();
    await this.deleteSprites();
    await this.stop();
    await expectNoTraces(this.home);
  }

  async traces(): Promise<string[]> {
    return await hostTraces(this.home);
  }

  /** Frees everything whatever the state; for the end of a file, also of a failed one. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.isRunning) await this.deleteSprites().catch(ignore("the sweep below ends the VMs"));
    await this.stop().catch(() => this.kill());
    await sweepHost(this.home);
    const keep = process.env["SPRITED_TEST_LOGS"];
    if (keep !== undefined) await fs.writeFile(path.join(keep, `${path.basename(this.home.layout.root)}.log`), await this.log());
    await this.home.remove();
  }
}

/** A range and user ids of its own for each home, so that daemons of parallel runs never meet. */
async function networkOf(homeId: string): Promise<Record<string, string>> {
  const number = Number.parseInt(homeId.slice(0, 4), 16);
  return {
    SPRITED_NETWORK_SUBNET: await findFreeRange(number),
    SPRITED_NETWORK_UID_BASE: String(1_900_000_000 + (number % 20_000) * 10_000),
  };
}

/** A port nobody listens on. */
export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
