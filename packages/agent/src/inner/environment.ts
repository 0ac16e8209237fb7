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
import { type Bootstrap, type GuestStatus, USER_NETWORK } from "@sprited/protocol/guest";
import { FileRoot } from "../fs/root.ts";
import { dropOutsideConnections } from "../net/inherited.ts";
import type { Environment } from "../service.ts";
import { BUSYBOX_SHELL } from "../spawn/launch.ts";
import type { Child, ProcessTable, SpawnRequest } from "../spawn/process-table.ts";
import { type EnclosedChild, type Enclosure, EnclosureGoneError } from "../spawn/spawner.ts";
import { ROOT_USER, type User } from "../spawn/user.ts";
import { say } from "../sys/console.ts";
import { setHostname, SystemCallError } from "../sys/libc.ts";
import { DISK_MOUNT, findDisk, isHeld, mountDisk, unmountDisk } from "./disk.ts";
import { DiskFreeze } from "./freeze.ts";
import { runHelper } from "./system-program.ts";
import { type Identity, writeIdentity } from "./identity.ts";
import { attachToolbox, enterInner, type Inner, prepareInner, releaseInner } from "./inner.ts";
import { asUser, inside, insideNetwork } from "./namespaces.ts";
import { UserTable } from "./users.ts";

/** e2fsck: nothing found, errors corrected. */
const FSCK_OK = [0, 1];
/** How long the kernel may take to let go of an ended environment's disk, ms. */
const RELEASE_TIMEOUT_MS = 5_000;
/** How long processes may take to stand still, ms. */
const REST_TIMEOUT_MS = 1_000;
/** Failed starts that say nothing about the environment: too long a command line, too many processes. */
const KEPT_ERRORS: ReadonlySet<string> = new Set(["E2BIG", "EAGAIN"]);
const SIGKILL = 9;
const SIGTERM = 15;

/** What becomes the user's root. */
export interface RootSource {
  /** Mounts it at `DISK_MOUNT`. Returns the device that must be free again before the VM may be killed. */
  mount(bootstrap: Bootstrap): Promise<string | undefined>;
}

export class InnerEnvironment implements Environment {
  readonly files = new FileRoot();
  readonly #processes: ProcessTable;
  readonly #root: RootSource;
  #prepared: Promise<Inner> | undefined;
  #current: Inner | undefined;
  readonly #lost = new WeakSet<Inner>();
  #entering: Promise<void> | undefined;
  #bootstrap: Bootstrap | undefined;
  #mounted: { device: string | undefined } | undefined;
  #users: UserTable | undefined;
  #starts = 0;
  #index = 0;
  #error: string | undefined;
  #isStopped = false;
  #freeze: DiskFreeze | undefined;

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
      spawn: (user, request) => {
        if (!this.#current) throw new EnclosureGoneError("the inner environment has ended");
        return this.#spawnIn(this.#current, user, request);
      },
      innerPid,
      network: {
        inside: (work) => {
          if (!this.#current) throw new EnclosureGoneError("the inner environment has ended");
          return insideNetwork(this.#current.pidfd, work);
        },
        viewPid: () => this.#current?.pid,
        owns: () => true,
      },
    };
  }

  /** Makes the namespaces. Resolves when they are ready to be entered. */
  async prepare(): Promise<void> {
    await this.#prepare();
  }

  dropInherited(bootstrap: Bootstrap): void {
    const [inner, previous] = [this.#current, this.#bootstrap];
    if (!inner || !previous || !(bootstrap.drop_connections || isOther(previous, bootstrap))) return;
    const count = insideNetwork(inner.pidfd, () => dropOutsideConnections(USER_NETWORK.guestAddress));
    if (count > 0) say(`${count} inherited connections ended`);
  }

  bootstrap(bootstrap: Bootstrap): void {
    const previous = this.#bootstrap;
    this.#bootstrap = bootstrap;
    // Its processes sleep since `rest`; clock and randomness are right by now.
    this.#current?.cgroup.setFrozen(false);
    if (!this.#current || !previous) this.ready().catch(ignore("told by the status and to whoever needs it"));
    else if (isOther(previous, bootstrap)) this.#rename(this.#current, bootstrap);
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
      this.#processes.kill(inner.pid, SIGKILL);
      await inner.ended;
    }
    if (!this.#mounted) return;
    this.#freeze?.end();
    await this.files.leave();
    const { device } = this.#mounted;
    this.#users?.close();
    this.#users = undefined;
    unmountDisk();
    this.#mounted = undefined;
    if (device === undefined) return;
    await waitFor("the disk to be let go", { timeoutMs: RELEASE_TIMEOUT_MS }, () => !isHeld(device));
  }

  async sync(): Promise<void> {
    // Flushing can take long, and commands want to be served meanwhile.
    if (this.#mounted) await runHelper(this.#processes, "/usr/bin/busybox", ["sync", "-f", DISK_MOUNT]);
  }

  async rest(options: { sync: boolean }): Promise<void> {
    const inner = this.#current;
    if (!inner) return;
    inner.cgroup.setFrozen(true);
    // One that cannot be stopped now (it waits for a disk) is stopped with the machine.
    await waitFor("the sprite's processes to stand still", { timeoutMs: REST_TIMEOUT_MS }, () => inner.cgroup.isFrozen()).catch(
      ignore("they stand still a little later"),
    );
    if (options.sync) await this.sync();
  }

  async freeze(timeoutMs: number): Promise<void> {
    this.#freeze ??= new DiskFreeze(this.#processes);
    if (this.#mounted) await this.#freeze.begin(timeoutMs);
  }

  async thaw(): Promise<{ held: boolean }> {
    // A disk that is not mounted is not written either.
    return { held: this.#mounted === undefined || (this.#freeze?.end() ?? false) };
  }

  async #prepare(): Promise<Inner> {
    if (this.#prepared) return await this.#prepared;
    this.#index += 1;
    const prepared = prepareInner(this.#processes, this.#index).then((inner) => {
      inner.ended.then(() => this.#ended(inner)).catch(ignore("never rejects"));
      return inner;
    });
    this.#prepared = prepared;
    try {
      return await prepared;
    } catch (error) {
      if (this.#prepared === prepared) this.#prepared = undefined;
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
      this.#lose(inner);
      throw error;
    }
    this.files.enter(inside(inner.pidfd, () => fs.openSync("/", fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)));
    this.#current = inner;
    this.#starts += 1;
    this.#error = undefined;
    if (bootstrap.identity.renew) this.#makeHostKeys(inner);
  }

  /** Its init has ended: the next request finds a new one, made ready meanwhile. */
  #ended(inner: Inner): void {
    this.#lose(inner);
    releaseInner(inner);
    if (!this.#isStopped) this.#prepare().catch(ignore("tried again by the next request"));
  }

  /** Uses an environment no more. What it was may be noticed by a failed start before its end is told. */
  #lose(inner: Inner): void {
    if (this.#lost.has(inner)) return;
    this.#lost.add(inner);
    if (this.#current === inner) {
      this.#current = undefined;
      this.files.leave().catch(ignore("never rejects"));
    }
    // One is prepared at a time, and only after the last was lost.
    this.#prepared = undefined;
    this.#processes.kill(inner.pid, SIGKILL);
  }

  /**
   * Starts something inside. What a user's root may have broken for that is mended once: the tool
   * box is attached again. An environment that cannot be mended is ended, and the next request
   * finds a new one.
   */
  #spawnIn(inner: Inner, user: User, request: Omit<SpawnRequest, "cgroupFd">): EnclosedChild {
    const cgroup = inner.sessionCgroups.take();
    const attempt = (): Child => inside(inner.pidfd, () => asUser(user, () => this.#processes.spawn({ ...request, cgroupFd: cgroup.fd })));
    let child: Child;
    try {
      try {
        child = attempt();
      } catch (error) {
        if (!isMendable(error)) throw error;
        attachToolbox(inner);
        child = attempt();
      }
    } catch (error) {
      inner.sessionCgroups.release(cgroup);
      if (error instanceof SystemCallError && KEPT_ERRORS.has(error.code)) throw error;
      say(`inner environment is ended: ${error instanceof Error ? error.message : String(error)}`);
      this.#lose(inner);
      throw new EnclosureGoneError("the inner environment has ended", { cause: error });
    }
    expendable(child);
    child.ended.then(() => inner.sessionCgroups.release(cgroup)).catch(ignore("the environment ended with it"));
    return { ...child, killAll: () => cgroup.killAll() };
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
      this.#spawnIn(inner, ROOT_USER, {
        path: BUSYBOX_SHELL.path,
        argv: [...BUSYBOX_SHELL.argv, "-c", "[ -x /usr/sbin/sshd ] && [ -x /usr/bin/ssh-keygen ] && exec /usr/bin/ssh-keygen -A"],
        env: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
        stdio: [nothing, nothing, nothing],
      });
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

/** Whether a bootstrap brings another identity, or asks for a new one. */
function isOther(before: Bootstrap, { identity }: Bootstrap): boolean {
  return identity.renew || identity.hostname !== before.identity.hostname || identity.machine_id !== before.identity.machine_id;
}

function identityOf({ identity }: Bootstrap): Identity {
  return { hostname: identity.hostname, machineId: identity.machine_id, renew: identity.renew };
}

/** Whether a start failed because of what stands at the tool box's place. */
function isMendable(error: unknown): boolean {
  return error instanceof SystemCallError && error.call === "posix_spawn" && error.code !== "ENOMEM" && !KEPT_ERRORS.has(error.code);
}

/**
 * Lets the kernel kill a command in need of memory. Said of the child and not of this process
 * before it: while memory is short a start can take long, and the agent must not be the victim.
 */
function expendable(child: Child): void {
  try {
    fs.writeFileSync(`/proc/${child.pid}/oom_score_adj`, "0");
  } catch (error) {
    // It has ended already.
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" && (error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
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
