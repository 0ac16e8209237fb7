/** Reads all settings from disk and environment and hands them to the pure decisions of `target.ts`. */
import type { GlobalFlags } from "../args/command-line.ts";
import { loadAccounts } from "./accounts.ts";
import { type Environment, readEnvironment } from "./environment.ts";
import { readText } from "./files.ts";
import { readSpriteFile } from "./sprite-file.ts";
import { chooseServer, chooseSprite, type HostToken, type Server, type TargetInput } from "./target.ts";

/** A server and a sprite on it. */
export interface Target {
  server: Server;
  sprite: string;
  /** True when `.sprite` named it: worth saying when it is not found. */
  fromFile: boolean;
}

export function loadTargetInput(flags: GlobalFlags): TargetInput {
  const environment = readEnvironment();
  return {
    flags,
    environment,
    // With a token in the environment no file decides anything, so a broken one must not stop it.
    accounts: environment.token ? { sprites: {}, tokens: {} } : loadAccounts(environment.settingsDir),
    spriteFile: readSpriteFile(process.cwd()),
    findHostToken: () => findHostToken(environment),
  };
}

export function loadServer(flags: GlobalFlags): Server {
  return chooseServer(loadTargetInput(flags));
}

export function loadTarget(flags: GlobalFlags, argument?: string): Target {
  const input = loadTargetInput(flags);
  const chosen = chooseSprite({ argument, flags, spriteFile: input.spriteFile });
  return { server: chooseServer(input), sprite: chosen.name, fromFile: chosen.from === "file" };
}

/** The token of a server on this machine, when this user may read it. */
export function findHostToken(environment: Environment): HostToken | undefined {
  for (const path of environment.hostTokenFiles) {
    const token = readIfAllowed(path)?.trim();
    if (token) return { path, token };
  }
  return undefined;
}

function readIfAllowed(path: string): string | undefined {
  try {
    return readText(path);
  } catch {
    return undefined; // another user's server: its token is not for us
  }
}
