/**
 * Starts commands for sessions. Where a command runs is the enclosure's business: the inner
 * environment of a sprite, or nothing at all for tests on a bare host.
 */
import fs from "node:fs";
import net from "node:net";
import type { Readable, Writable } from "node:stream";
import tty from "node:tty";
import type { CommandStart, TerminalSize } from "@sprited/protocol/guest";
import { type ChildEnd, duplicateFd, fcntl, pipe, SystemCallError } from "../sys/libc.ts";
import type { SpriteNetwork } from "../net/network.ts";
import { type LaunchShell, LaunchError, planLaunch } from "./launch.ts";
import { ignoresWhileLaunching } from "./launching.ts";
import type { Child, SpawnRequest } from "./process-table.ts";
import { foregroundGroup, openPty, resizePty } from "./pty.ts";
import type { User } from "./user.ts";

/** The enclosure ended before the command was started in it; a new one may be ready soon. */
export class EnclosureGoneError extends Error {
  override readonly name = "EnclosureGoneError";
}

/** A process with everything that it starts. */
export interface EnclosedChild extends Child {
  /** Ends it and everything it started. */
  killAll(): void;
}

/** Where commands run. */
export interface Enclosure {
  readonly shell: LaunchShell;
  /** Who commands run as. */
  user(): User;
  /** Starts a program inside the enclosure, as `user`. Throws `EnclosureGoneError`, `SystemCallError`. */
  spawn(user: User, request: Omit<SpawnRequest, "cgroupFd">): EnclosedChild;
  /** The number a process has inside. */
  innerPid(pid: number): number | null;
  /** The network of what runs inside. */
  readonly network: SpriteNetwork;
}

/** A started command, or what a session treats as one. */
export interface Command {
  /** As the agent sees it; undefined for what is no process. */
  readonly pid: number | undefined;
  readonly innerPid: number | null;
  /** Terminal output or standard output. */
  readonly stdout: Readable;
  /** Undefined with a terminal. */
  readonly stderr: Readable | undefined;
  /** Undefined when the command has an empty input. */
  readonly stdin: Writable | undefined;
  readonly ended: Promise<ChildEnd>;
  /** Whether it has not begun yet, and what starts it ignores the signal of that number. */
  ignoresYet(signal: number): boolean;
  /** Foreground process group of the terminal; undefined without one. */
  foregroundGroup(): number | undefined;
  resize(size: TerminalSize): void;
  /** Ends the command and everything it started. */
  killAll(): void;
}

/** Bytes a pipe holds; larger ones save the command switches to and fro. */
const PIPE_BYTES = 1024 * 1024;

export class Spawner {
  readonly #enclosure: Enclosure;

  constructor(enclosure: Enclosure) {
    this.#enclosure = enclosure;
  }

  get enclosure(): Enclosure {
    return this.#enclosure;
  }

  /** Starts a command. Throws `LaunchError` when it can never run, `SystemCallError` when it cannot now. */
  start(start: CommandStart, environment: Readonly<Record<string, string>>): Command {
    const user = this.#enclosure.user();
    return start.tty ? this.#startInTerminal(start, start.tty, user, environment) : this.#startWithPipes(start, user, environment);
  }

  #startInTerminal(start: CommandStart, size: TerminalSize, user: User, environment: Readonly<Record<string, string>>): Command {
    const pty = openPty(size, user);
    let child;
    let launch;
    try {
      launch = planLaunch({ start, user, environment, terminal: pty.path, shell: this.#enclosure.shell });
      child = this.#spawn(user, { ...launch, stdio: [pty.slaveFd, pty.slaveFd, pty.slaveFd] });
    } catch (error) {
      fs.closeSync(pty.masterFd);
      throw error;
    } finally {
      fs.closeSync(pty.slaveFd);
    }
    // A program may close its terminal a moment before it ends. The master closing then would end
    // it by SIGHUP, so a second descriptor keeps it open for as long as the command runs.
    const keptFd = duplicateFd(pty.masterFd);
    let isRunning = true;
    const ended = child.ended.finally(() => {
      isRunning = false;
      fs.closeSync(keptFd);
    });
    const master = new tty.ReadStream(pty.masterFd);
    return {
      pid: child.pid,
      innerPid: this.#enclosure.innerPid(child.pid),
      stdout: master,
      stderr: undefined,
      stdin: master,
      ended,
      ignoresYet: (signal) => ignoresWhileLaunching(child.pid, launch.argv, signal),
      foregroundGroup: () => (isRunning ? foregroundGroup(keptFd) : undefined),
      resize: (next) => {
        if (isRunning) resizePty(keptFd, next);
      },
      killAll: () => child.killAll(),
    };
  }

  #startWithPipes(start: CommandStart, user: User, environment: Readonly<Record<string, string>>): Command {
    const launch = planLaunch({ start, user, environment, terminal: undefined, shell: this.#enclosure.shell });
    const opened: number[] = [];
    const theirs: number[] = [];
    const makePipe = (mine: "readFd" | "writeFd"): { mine: number; theirs: number } => {
      const made = pipe();
      opened.push(made[mine]);
      const other = mine === "readFd" ? made.writeFd : made.readFd;
      theirs.push(other);
      // `/dev/stdout` is opened by path: the user must own what it leads to.
      if (user.uid !== process.getuid?.()) fs.fchownSync(other, user.uid, user.gid);
      return { mine: made[mine], theirs: other };
    };
    try {
      const input = start.stdin ? makePipe("writeFd") : undefined;
      const output = makePipe("readFd");
      const error = makePipe("readFd");
      growPipe(output.mine);
      const nothing = input ? undefined : fs.openSync("/dev/null", "r");
      if (nothing !== undefined) theirs.push(nothing);
      const child = this.#spawn(user, { ...launch, stdio: [input?.theirs ?? (nothing as number), output.theirs, error.theirs] });
      return {
        pid: child.pid,
        innerPid: this.#enclosure.innerPid(child.pid),
        stdout: new net.Socket({ fd: output.mine, readable: true, writable: false }),
        stderr: new net.Socket({ fd: error.mine, readable: true, writable: false }),
        stdin: input && new net.Socket({ fd: input.mine, readable: false, writable: true }),
        ended: child.ended,
        ignoresYet: (signal) => ignoresWhileLaunching(child.pid, launch.argv, signal),
        foregroundGroup: () => undefined,
        resize: () => {},
        killAll: () => child.killAll(),
      };
    } catch (error) {
      for (const fd of opened) fs.closeSync(fd);
      throw error;
    } finally {
      for (const fd of theirs) fs.closeSync(fd);
    }
  }

  #spawn(user: User, request: Omit<SpawnRequest, "cgroupFd">): EnclosedChild {
    try {
      return this.#enclosure.spawn(user, request);
    } catch (error) {
      if (error instanceof SystemCallError && error.code === "E2BIG") {
        throw new LaunchError("arguments and environment together are longer than Linux passes to a program", { cause: error });
      }
      throw error;
    }
  }
}

function growPipe(fd: number): void {
  const F_SETPIPE_SZ = 1031;
  try {
    fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
  } catch (error) {
    // Beyond the user's allowance the pipe keeps its size.
    if (!(error instanceof SystemCallError)) throw error;
  }
}
