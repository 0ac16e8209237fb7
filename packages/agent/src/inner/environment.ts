/**
 * The inner environment over time: prepared before the boot snapshot, entered after bootstrap,
 * begun anew when it ended by itself (SESS-9), ended for good by `stop`.
 *
 * ```
 * absent ──prepare──▶ prepared ──bootstrap──▶ starting ──▶ running ──init ended──▶ prepared …
 *                                                └──▶ failed ──next request──▶ starting
 * any ──stop──▶ stopped
 * ```
 */
import fs from "node:fs";
import path from "node:path";
import { ignore, sleep, waitFor } from "@sprited/base";
import type { Bootstrap, GuestStatus } from "@sprited/protocol/guest";
import type { Environment } from "../service.ts";
import { BUSYBOX_SHELL } from "../spawn/launch.ts";
import type { ProcessTable } from "../spawn/process-table.ts";
import { type Enclosure, EnclosureGoneError } from "../spawn/spawner.ts";
import { ROOT_USER, type User } from "../spawn/user.ts";
import { say } from "../sys/console.ts";
import { setHostname, SystemCallError } from "../sys/libc.ts";
import { DISK_MOUNT, findDisk, isHeld, mountDisk, syncDisk, unmountDisk } from "./disk.ts";
import { runHelper } from "./helper.ts";
import { type Identity, writeIdentity } from "./identity.ts";
import { enterInner, type Inner, prepareInner, releaseInner } from "./inner.ts";
import { asUser, inside } from "./namespaces.ts";
import { UserTable } from "./users.ts";

/** e2fsck: nothing found, errors corrected. */
const FSCK_OK = [0, 1];
/** How long the kernel may take to let go of an ended environment's disk, ms. */
const RELEASE_TIMEOUT_MS = 5_000;
const SIGKILL = 9;
const SIGTERM = 15;

/** What becomes the user's root. */
export interface RootSource {
  /** Mounts it at `DISK_MOUNT`. Returns the device that must be free again before the VM may be killed. */
  mount(bootstrap: Bootstrap): Promise<string | undefined>;
}

export class InnerEnvironment implements Environment {
  readonly #processes: ProcessTable;
  readonly #root: RootSource;
  #prepared: Promise<Inner> | undefined;
  #current: Inner | undefined;
  #entering: Promise<void> | undefined;
  #bootstrap: Bootstrap | undefined;
  #mounted: { device: string | undefined } | undefined;
  #users: UserTable | undefined;
  #starts = 0;
  #index = 0;
  #error: string | undefined;
  #isStopped = false;

  constructor(processes: ProcessTable, root: RootSource) {
    this.#processes = processes;
    this.#root = root;
  }

  get status(): Pick<GuestStatus, "inner" | "inner_error" | "inner_starts"> {
    const inner = this.#current ? "running" : this.#entering ? "starting" : this.#error === undefined ? "absent" : "failed";
    return { inner, inner_error: this.#error?.slice(0, 1000) ?? null, inner_starts: this.#starts };
  }

  /** Where commands run: the running environment, or before bootstrap the prepared one with the VM's root still in it. */
  get enclosure(): Enclosure {
    return {
      shell: BUSYBOX_SHELL,
      user: () => this.#users?.current() ?? ROOT_USER,
      within: (user, spawn) => this.#within(user, spawn),
      innerPid,
    };
  }

  /** Makes the namespaces. Resolves when they are ready to be entered. */
  async prepare(): Promise<void> {
    await this.#prepare();
  }

  bootstrap(bootstrap: Bootstrap): void {
    const previous = this.#bootstrap;
    this.#bootstrap = bootstrap;
    if (this.#current && previous) this.#rename(this.#current, bootstrap);
    else this.ready().catch(ignore("told by the status and to whoever needs it"));
  }

  async ready(): Promise<void> {
    if (this.#isStopped) throw new Error("the sprite is being stopped");
    if (this.#current) return;
    if (!this.#bootstrap) throw new Error("not bootstrapped yet");
    this.#entering ??= this.#enter(this.#bootstrap)
      .catch((error: unknown) => {
        this.#error = error instanceof Error ? error.message : String(error);
        say(`inner environment failed: ${this.#error}`);
        throw error;
      })
      .finally(() => {
        this.#entering = undefined;
      });
    await this.#entering;
  }

  async stop(graceMs: number): Promise<void> {
    this.#isStopped = true;
    await this.#entering?.catch(ignore("it is ended all the same"));
    const inner = this.#current ?? (await this.#prepared?.catch(ignore("nothing to end")));
    if (inner) {
      if (this.#current) await endGently(inner, graceMs);
      killInner(inner);
      await inner.ended;
    }
    if (!this.#mounted) return;
    const { device } = this.#mounted;
    this.#users?.close();
    this.#users = undefined;
    unmountDisk();
    this.#mounted = undefined;
    if (device === undefined) return;
    await waitFor("the disk to be let go", { timeoutMs: RELEASE_TIMEOUT_MS }, () => !isHeld(device));
  }

  async sync(): Promise<void> {
    if (this.#mounted) syncDisk();
  }

  async #prepare(): Promise<Inner> {
    if (this.#prepared) return await this.#prepared;
    this.#index += 1;
    const prepared = prepareInner(this.#processes, this.#index);
    this.#prepared = prepared;
    try {
      const inner = await prepared;
      inner.ended.then(() => this.#ended(inner)).catch(ignore("never rejects"));
      return inner;
    } catch (error) {
      this.#prepared = undefined;
      throw error;
    }
  }

  async #enter(bootstrap: Bootstrap): Promise<void> {
    const inner = await this.#prepare();
    if (!this.#mounted) {
      this.#mounted = { device: await this.#root.mount(bootstrap) };
      this.#users = new UserTable(DISK_MOUNT);
    }
    try {
      enterInner(inner, identityOf(bootstrap));
    } catch (error) {
      killInner(inner);
      throw error;
    }
    this.#current = inner;
    this.#starts += 1;
    this.#error = undefined;
    if (bootstrap.identity.renew) this.#makeHostKeys(inner);
  }

  /** Its init has ended: the next request finds a new one, made ready meanwhile. */
  #ended(inner: Inner): void {
    this.#prepared = undefined;
    if (this.#current === inner) this.#current = undefined;
    releaseInner(inner);
    if (!this.#isStopped) this.#prepare().catch(ignore("tried again by the next request"));
  }

  #within<T>(user: User, spawn: (inside: { cgroupFd: number }) => T): T {
    const inner = this.#current;
    if (!inner) throw new EnclosureGoneError("the inner environment has ended");
    return this.#spawnIn(inner, user, spawn);
  }

  #spawnIn<T>(inner: Inner, user: User, spawn: (inside: { cgroupFd: number }) => T): T {
    try {
      return inside(inner.pidfd, () => asUser(user, () => spawn({ cgroupFd: inner.sessionsFd })));
    } catch (error) {
      const isGone = error instanceof SystemCallError && (error.call === "setns" || error.code === "ENOMEM");
      if (!isGone) throw error;
      if (this.#current === inner) this.#current = undefined;
      killInner(inner);
      throw new EnclosureGoneError("the inner environment has ended", { cause: error });
    }
  }

  /** Gives a running environment its new identity. What the user's root does not allow stays as it was. */
  #rename(inner: Inner, bootstrap: Bootstrap): void {
    try {
      inside(inner.pidfd, () => {
        setHostname(bootstrap.identity.hostname);
        writeIdentity(identityOf(bootstrap));
      });
    } catch (error) {
      this.#error = `the identity was not written: ${error instanceof Error ? error.message : String(error)}`;
    }
    if (bootstrap.identity.renew) this.#makeHostKeys(inner);
  }

  /** New host keys where an SSH server is installed; nobody waits for them. */
  #makeHostKeys(inner: Inner): void {
    const nothing = fs.openSync("/dev/null", "r+");
    try {
      this.#spawnIn(inner, ROOT_USER, ({ cgroupFd }) =>
        this.#processes.spawn({
          path: BUSYBOX_SHELL.path,
          argv: [...BUSYBOX_SHELL.argv, "-c", "[ -x /usr/sbin/sshd ] && [ -x /usr/bin/ssh-keygen ] && exec /usr/bin/ssh-keygen -A"],
          env: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
          stdio: [nothing, nothing, nothing],
          cgroupFd,
        }),
      );
    } catch (error) {
      this.#error = `host keys were not made: ${error instanceof Error ? error.message : String(error)}`;
    } finally {
      fs.closeSync(nothing);
    }
  }
}

/** The sprite's disk, repaired first where needed. */
export function diskSource(processes: ProcessTable): RootSource {
  return {
    mount: async (bootstrap) => {
      const device = findDisk(bootstrap.root_serial);
      await mountDisk(device, (file) => runHelper(processes, "/usr/sbin/e2fsck", ["-p", file], FSCK_OK));
      return device;
    },
  };
}

function identityOf({ identity }: Bootstrap): Identity {
  return { hostname: identity.hostname, machineId: identity.machine_id, renew: identity.renew };
}

function killInner(inner: Inner): void {
  signal(inner.pid, SIGKILL);
}

/** Asks every process inside to end and gives them `graceMs`. */
async function endGently(inner: Inner, graceMs: number): Promise<void> {
  const others = (): number[] => processesOf(inner.cgroup.directory).filter((pid) => pid !== inner.pid);
  if (graceMs > 0) {
    for (const pid of others()) signal(pid, SIGTERM);
    const deadline = performance.now() + graceMs;
    while (others().length > 0 && performance.now() < deadline) await sleep(20);
  }
}

function signal(pid: number, number: number): void {
  try {
    process.kill(pid, number);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Processes of a cgroup and of those inside it, as this agent sees them. */
function processesOf(directory: string): number[] {
  const own = fs.readFileSync(path.join(directory, "cgroup.procs"), "utf8").split("\n").filter(Boolean).map(Number);
  const below = fs.readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [...own, ...below.flatMap((entry) => processesOf(path.join(directory, entry.name)))];
}

/** The innermost number of a process; null when it has gone. */
function innerPid(pid: number): number | null {
  try {
    const line = /^NSpid:\s+(.*)$/m.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"));
    return Number(line?.[1]?.split(/\s+/).at(-1)) || null;
  } catch {
    return null;
  }
}
