/**
 * A sprite to do real work in, and two ways to it: straight, and over a network that cuts every
 * connection once a second. Whatever is done must come out the same on both.
 */
import { waitFor } from "@sprited/base";
import { expect } from "vitest";
import { type CliResult, CliHome, collect } from "../e2e/cli-run.ts";
import { CuttingProxy } from "../kit/cutting-proxy.ts";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { uniqueName } from "../kit/target.ts";

/** The image with a developer's tools. */
export const DEVELOPER_IMAGE = "default";
/** Longest single piece of work, ms: a compiler under emulation. */
const WORK_TIMEOUT_MS = 900_000;
const CUT_EVERY_MS = 1_000;
/** Compilers and package managers need more than the smallest VM has, MiB. */
const MEMORY_MIB = 1024;

/** Why work in the developer's image cannot be tested here; undefined while it can. */
export function developerSkipReason(): string | undefined {
  return vmSkipReason(DEVELOPER_IMAGE);
}

/** `straight`, or cut once a second from the first byte of output on. */
export type Way = "straight" | "cut";
export const WAYS: readonly Way[] = ["straight", "cut"];

export interface WorkOptions {
  input?: Uint8Array;
  /** Takes standard output instead of keeping it. */
  onOutput?: (data: Buffer) => void;
}

export class Workshop implements AsyncDisposable {
  readonly daemon: DaemonProcess;
  readonly name: string;
  readonly #proxy: CuttingProxy;
  readonly #homes: Record<Way, CliHome>;

  private constructor(daemon: DaemonProcess, name: string, proxy: CuttingProxy, homes: Record<Way, CliHome>) {
    this.daemon = daemon;
    this.name = name;
    this.#proxy = proxy;
    this.#homes = homes;
  }

  /** Starts a daemon and a sprite of `image`, and waits until the sprite answers. */
  static async open(image?: string): Promise<Workshop> {
    const developer = image === undefined ? {} : { image, environment: { SPRITED_SPRITE_MEMORY_MB: String(MEMORY_MIB) } };
    const daemon = await DaemonProcess.open(developer);
    const proxy = await CuttingProxy.open(daemon.baseUrl);
    const home = (url: string): Promise<CliHome> => CliHome.make({ SPRITES_API_URL: url, SPRITE_TOKEN: daemon.token });
    const shop = new Workshop(daemon, uniqueName("work"), proxy, { straight: await home(daemon.baseUrl), cut: await home(proxy.url) });
    const made = await shop.home("straight").run(["create", shop.name, "--skip-console"], { timeoutMs: WORK_TIMEOUT_MS });
    if (made.code !== 0) throw new Error(`the sprite could not be made: ${made.err}\n${(await daemon.log()).slice(-3_000)}`);
    return shop;
  }

  /** Where the command line of this way has its settings. */
  home(way: Way): CliHome {
    return this.#homes[way];
  }

  /** A further home for the same way: a terminal of tests needs one of its own. */
  async newHome(way: Way): Promise<CliHome> {
    return CliHome.make(this.#homes[way].env);
  }

  /** Connections over the network that cuts, so far: each beyond the first of a command came back after a cut. */
  get connections(): number {
    return this.#proxy.connections;
  }

  /** Cuts once a second until the result is disposed. */
  cutting(): Disposable {
    const timer = setInterval(() => this.#proxy.cut(), CUT_EVERY_MS);
    return { [Symbol.dispose]: () => clearInterval(timer) };
  }

  /** Any command of the CLI about this sprite; `cut` begins with its first output. */
  async sprite(way: Way, args: readonly string[], options: WorkOptions = {}): Promise<CliResult> {
    const child = this.home(way).start(args, { env: { SPRITE_NAME: this.name } });
    child.stdin?.on("error", () => {}); // ended without reading
    child.stdin?.end(options.input ?? "");
    let stop: Disposable | undefined;
    const begin = (): void => {
      if (way === "cut") stop ??= this.cutting();
    };
    child.stdout?.once("data", begin);
    child.stderr?.once("data", begin);
    if (options.onOutput) child.stdout?.on("data", options.onOutput);
    try {
      const result = await collect(child, WORK_TIMEOUT_MS);
      return { ...result, err: result.err.replaceAll(/sprite: connect(ion|ed) to [^\n]*\n/g, "") };
    } finally {
      stop?.[Symbol.dispose]();
    }
  }

  /** Runs a script by `sprite exec`; its output after a line that says that it has begun. */
  async shell(way: Way, script: string, options: WorkOptions = {}): Promise<CliResult> {
    const result = await this.sprite(
      way,
      ["exec", "-s", this.name, "--no-port-forward", "--", "sh", "-c", `echo begun; ${script}`],
      options,
    );
    expect(result.out.slice(0, 6), result.err).toBe("begun\n");
    return { ...result, out: result.out.slice(6), stdout: result.stdout.subarray(6) };
  }

  /** The same, and it must end well. */
  async work(way: Way, script: string): Promise<string> {
    const result = await this.shell(way, `set -e; ${script}`);
    expect(result.code, `${script}\n${result.err}\n${result.out}`.slice(-4_000)).toBe(0);
    return result.out;
  }

  /** The script as a job: started, followed and waited for over the same way. Its exit code and output. */
  async job(way: Way, script: string): Promise<{ code: number | null; out: string }> {
    const key = uniqueName("job");
    const start = ["exec", "-s", this.name, "--background", "--key", key, "--", "sh", "-c", `echo begun; ${script}`];
    const started = await this.sprite(way, start);
    expect(started.code, started.err).toBe(0);
    const id = started.out.trim();
    const logs = await this.sprite(way, ["jobs", "logs", "-s", this.name, "-f", "--stream", "stdout", id]);
    expect(logs.code, logs.err).toBe(0);
    const { code } = await this.sprite(way, ["jobs", "wait", "-s", this.name, id]);
    return { code, out: logs.out.replace(/^begun\n/, "") };
  }

  /** Starts a server that goes on until the sprite ends; resolves when its port is open. */
  async serve(script: string, port: number): Promise<void> {
    await this.work("straight", `nohup setsid sh -c '${script.replaceAll("'", `'\\''`)}' >/tmp/server-${port}.log 2>&1 </dev/null &`);
    const hex = port.toString(16).toUpperCase().padStart(4, "0");
    await waitFor(`port ${port} in the sprite`, { timeoutMs: WORK_TIMEOUT_MS, everyMs: 1_000 }, async () => {
      const { out } = await this.shell("straight", `grep -c ':${hex} 0*:0000 0A' /proc/net/tcp; tail -3 /tmp/server-${port}.log >&2`);
      return Number(out) > 0;
    });
  }

  /** Copies a directory of this host into the sprite. */
  async push(way: Way, local: string, remote: string): Promise<void> {
    const result = await this.sprite(way, ["file", "push", "-s", this.name, "-r", "-p", local, remote]);
    expect(result.code, result.err).toBe(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.home("straight").remove();
    await this.home("cut").remove();
    await this.#proxy[Symbol.asyncDispose]();
    await this.daemon.closeClean().finally(() => this.daemon[Symbol.asyncDispose]());
  }
}
