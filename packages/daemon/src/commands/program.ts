import { readFileSync } from "node:fs";
import path from "node:path";
import { Command, Option } from "@commander-js/extra-typings";
import { homeLayout } from "@sprited/disk";
import type { ApiClient } from "@sprited/protocol/client";
import { configFields, type LoadedConfig, loadConfig, printSettings, settingsJson } from "../config/index.ts";
import { lockHome } from "../lock.ts";
import { openLogger } from "../logger.ts";
import {
  ensureHome,
  findProgram,
  freeBytesAt,
  hostSteps,
  openProgress,
  type PrivilegeFacts,
  PRODUCT_PACKAGE,
  type ProgressReporter,
  runSteps,
} from "../setup/index.ts";
import { openAdminClient } from "./api.ts";
import type { DaemonPort } from "./daemon-port.ts";
import { doctor } from "./doctor/index.ts";
import { elevate } from "./elevate.ts";
import { collectGarbage } from "./gc.ts";
import { buildImage, listImages } from "./image.ts";
import { type Lifetime, openLifetime } from "./lifetime.ts";
import { changeQuota } from "./quota.ts";
import { serve } from "./serve.ts";
import { start } from "./start.ts";
import { openScreen } from "./terminal.ts";
import { createToken, listTokens, revokeToken } from "./token.ts";

/**
 * The command line of `sprited`: what each command takes, and which function does it. Every
 * action leaves its exit code with `finish`.
 */

export interface ProgramPorts {
  /** The rest of the daemon, loaded when first needed. */
  daemon: DaemonPort;
  out: (text: string) => void;
  /** For warnings and everything that is no result. */
  err: (text: string) => void;
  finish: (exitCode: number) => void;
}

/** Builds the program. */
export function makeProgram(ports: ProgramPorts): Command {
  const program = new Command("sprited")
    .description("Persistent Linux computers for coding agents, each in its own VM, on this host.")
    .version(productVersion(), "--version", "print the version")
    .showHelpAfterError("(sprited --help shows what there is)");
  addRunning(program, ports);
  addSettings(program, ports);
  addImages(program, ports);
  addTokens(program, ports);
  addHousekeeping(program, ports);
  return program;
}

function addRunning(program: Command, ports: ProgramPorts): void {
  const starterPid = new Option("--starter-pid <pid>", "end when this process ends").argParser(Number).hideHelp();
  program
    .command("start")
    .description("set up what is missing, then run the daemon in the foreground")
    .option("--no-sudo", "never ask for root; say what does not work without")
    .addOption(starterPid)
    .action(async (options) => {
      const loaded = load(ports);
      const elevated = await elevate({
        command: thisCommand(),
        settings: settingsForSudo(loaded),
        facts: privilegeFacts(!options.sudo),
        say: (line) => ports.out(`${line}\n`),
      });
      if (elevated !== undefined) return ports.finish(elevated);
      using lifetime = openLifetime({ starterPid: options.starterPid });
      const progress = openProgress(openScreen(process.stdout));
      const logger = fileLogger(loaded, ports);
      const setup = makeSetup(loaded, { ports, lifetime, progress, images: [loaded.config.sprite.image] });
      ports.finish(await start({ config: loaded.config, logger, daemon: ports.daemon, lifetime, progress, setup }));
    });
  program
    .command("serve")
    .description("run the daemon only; set-up must have been done")
    .addOption(starterPid)
    .action(async (options) => {
      const loaded = load(ports);
      using lifetime = openLifetime({ starterPid: options.starterPid });
      const logger = openLogger({ level: loaded.config.log.level });
      const onReady = async ({ url, tokenPath }: { url: string; tokenPath: string }): Promise<void> => {
        logger.info({ event: "ready", url, tokenPath }, "ready");
      };
      ports.finish(await serve({ config: loaded.config, logger, daemon: ports.daemon, lifetime, onReady }));
    });
  program
    .command("setup")
    .description("make everything a start needs, then end")
    .option("--image <name...>", "base images to build (default: the one new sprites use)")
    .action(async (options) => {
      const loaded = load(ports);
      using lifetime = openLifetime();
      const progress = openProgress(openScreen(process.stdout));
      const images = options.image ?? [loaded.config.sprite.image];
      await lockedSetup(loaded, makeSetup(loaded, { ports, lifetime, progress, images }));
      progress.line(progress.shown > 0 ? "Set-up finished." : "Everything is in place.");
      ports.finish(0);
    });
}

function addSettings(program: Command, ports: ProgramPorts): void {
  program
    .command("doctor")
    .description("check this host; exits with 4 when something blocks")
    .option("--images", "also read every base image in full, some ten seconds each")
    .option("--json", "for scripts")
    .action(async (options) => {
      const loaded = load(ports);
      const how = { json: options.json === true, readImages: options.images === true, out: ports.out };
      ports.finish(await doctor(loaded.config, how));
    });
  const config = program.command("config").description("settings");
  config
    .command("print")
    .description("show every setting, its value and where it comes from")
    .option("--json", "for scripts")
    .action((options) => {
      const { settings, filePath } = load(ports);
      ports.out(
        options.json === true ? `${JSON.stringify(settingsJson(settings), undefined, 2)}\n` : `${printSettings(settings, filePath)}\n`,
      );
      ports.finish(0);
    });
}

function addImages(program: Command, ports: ProgramPorts): void {
  const image = program.command("image").description("base images");
  image
    .command("list")
    .description("show the images that are built")
    .action(async () => {
      const { config } = load(ports);
      ports.out(`${await listImages(config, openLogger({ level: "error" }))}\n`);
      ports.finish(0);
    });
  image
    .command("build")
    .description("build an image; the same content is not built twice")
    .argument("<name>", "name of the image")
    .option("-f, --file <path>", "definition (default: the shipped one of that name)")
    .action(async (name, options) => {
      const { config } = load(ports);
      using lifetime = openLifetime();
      const definitionPath = options.file === undefined ? undefined : path.resolve(options.file);
      const progress = openProgress(openScreen(process.stderr));
      const text = await buildImage(config, {
        name,
        definitionPath,
        logger: openLogger({ level: "error" }),
        progress,
        signal: lifetime.signal,
      });
      ports.out(`${text}\n`);
      ports.finish(0);
    });
}

function addHousekeeping(program: Command, ports: ProgramPorts): void {
  program
    .command("gc")
    .description("remove files that nothing refers to")
    .option("--dry-run", "only name them, each with its reason")
    .action(async (options) => {
      ports.out(`${await collectGarbage(await adminClient(ports), { dryRun: options.dryRun === true })}\n`);
      ports.finish(0);
    });
  program
    .command("quota")
    .description("show or change what an organization may have at most")
    .option("-o, --organization <slug>", "the organization (default: that of the admin token)")
    .option("--sprites <count>", "sprites; none: no limit")
    .option("--running <count>", "sprites that run at the same time")
    .option("--disk-gb <gb>", "host disk of sprites, checkpoints and templates")
    .option("--checkpoints <count>", "checkpoints of all sprites")
    .action(async (options) => {
      ports.out(`${await changeQuota(await adminClient(ports), options)}\n`);
      ports.finish(0);
    });
}

async function adminClient(ports: ProgramPorts): Promise<ApiClient> {
  const { config } = load(ports);
  return await openAdminClient(config, homeLayout(config.home));
}

function addTokens(program: Command, ports: ProgramPorts): void {
  const token = program.command("token").description("tokens, through the running daemon");
  const client = async () => await adminClient(ports);
  token
    .command("create")
    .description("issue a token and print it; it is shown once")
    .option("-o, --organization <slug>", "its organization (default: that of the admin token)")
    .option("-d, --description <text>", "what it is for")
    .option("-p, --prefix <prefix>", "only sprites whose names begin so")
    .option("--admin", "may manage organizations and tokens")
    .action(async (options) => {
      ports.out(`${await createToken(await client(), options)}\n`);
      ports.finish(0);
    });
  token
    .command("list")
    .description("show tokens, never their text")
    .option("-o, --organization <slug>", "their organization")
    .action(async (options) => {
      ports.out(`${await listTokens(await client(), options)}\n`);
      ports.finish(0);
    });
  token
    .command("revoke")
    .description("revoke a token at once")
    .argument("<id>", "as token list shows it")
    .option("-o, --organization <slug>", "its organization")
    .action(async (id, options) => {
      await revokeToken(await client(), { id, ...options });
      ports.finish(0);
    });
}

function load(ports: ProgramPorts): LoadedConfig {
  const loaded = loadConfig();
  for (const warning of loaded.warnings) ports.err(`sprited: ${warning}\n`);
  return loaded;
}

function fileLogger(loaded: LoadedConfig, ports: ProgramPorts) {
  const { log, home } = loaded.config;
  return openLogger({ level: log.level, directory: homeLayout(home).logs, onWarning: (text) => ports.err(`! ${text}\n`) });
}

function makeSetup(
  loaded: LoadedConfig,
  how: { ports: ProgramPorts; lifetime: Lifetime; progress: ProgressReporter; images: readonly string[] },
): () => Promise<void> {
  const { config } = loaded;
  const { progress, lifetime, ports } = how;
  return async () => {
    const logger = fileLogger(loaded, ports);
    const steps = hostSteps({
      config,
      images: how.images,
      logger,
      say: progress.line,
      makeBootSnapshot: async (onProgress, signal) => ports.daemon.makeBootSnapshot(config, { logger, onProgress, signal }),
    });
    const floorBytes = config.disk.freeFloorGb * 1_073_741_824;
    await runSteps(steps, { home: config.home, progress, floorBytes, freeBytes: freeBytesAt, signal: lifetime.signal });
  };
}

async function lockedSetup({ config }: LoadedConfig, setup: () => Promise<void>): Promise<void> {
  await ensureHome(config.home);
  using _lock = lockHome(homeLayout(config.home).lockPath, "set-up");
  await setup();
}

function settingsForSudo({ config, settings }: LoadedConfig): Record<string, string> {
  const fromEnvironment = settings.filter((one) => one.source === "environment");
  const listed = fromEnvironment.map((one) => [one.field.variable, Array.isArray(one.value) ? one.value.join(",") : String(one.value)]);
  // Root would have another default.
  return { ...Object.fromEntries(listed), [variableOf("home")]: config.home };
}

function privilegeFacts(refused: boolean): PrivilegeFacts {
  return { uid: process.getuid?.() ?? 0, sudo: findProgram("sudo"), refused };
}

function variableOf(key: string): string {
  return configFields().find((field) => field.key === key)?.variable ?? "";
}

function thisCommand(): string[] {
  return [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
}

function productVersion(): string {
  return String((JSON.parse(readFileSync(PRODUCT_PACKAGE, "utf8")) as { version: unknown }).version);
}
