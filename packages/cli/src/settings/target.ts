/**
 * Decides which server, organization, token and sprite a command means. Pure (CLI-1 to CLI-5).
 *
 * Invariants: a stored token goes only to the URL it was stored for; the token of this machine's
 * server goes only to a loopback address.
 */
import type { GlobalFlags } from "../args/command-line.ts";
import { CliError } from "../output/cli-error.ts";
import { currentSelection, listAccounts, type Account, type Accounts } from "./accounts.ts";
import { DEFAULT_API_URL, isLoopback, normalizeApiUrl, resolveApiUrl, splitOrgFlag } from "./api-url.ts";
import type { Environment } from "./environment.ts";
import type { SpriteFile } from "./sprite-file.ts";

/** A server and the right to use it. */
export interface Server {
  apiUrl: string;
  token: string;
  /** Organization as far as it is known without asking the server. */
  org: string | undefined;
  tokenFrom: { kind: "environment" } | { kind: "stored" } | { kind: "host"; path: string };
  /** The user named the organization, but the token was not stored for it: ask before use. */
  orgUnproven: boolean;
}

export interface HostToken {
  path: string;
  token: string;
}

export interface TargetInput {
  flags: GlobalFlags;
  environment: Environment;
  accounts: Accounts;
  spriteFile: SpriteFile | undefined;
  /** Reads the token of a server on this machine; called only when nothing else gave one. */
  findHostToken: () => HostToken | undefined;
}

/** The server a command talks to. Throws `CliError` when there is no token for it. */
export function chooseServer(input: TargetInput): Server {
  const { environment, accounts } = input;
  const flag = splitOrgFlag(input.flags.org ?? "");
  const named = flag.org ?? environment.org;
  if (environment.token) {
    const apiUrl = chosenUrl(input, flag.api) ?? DEFAULT_API_URL;
    return {
      apiUrl,
      token: checkToken(environment.token, "SPRITE_TOKEN"),
      org: named,
      tokenFrom: { kind: "environment" },
      orgUnproven: flag.org !== undefined,
    };
  }
  const wanted = named ?? input.spriteFile?.organization;
  const known = listAccounts(accounts);
  const selection = currentSelection(accounts);
  const apiUrl = chosenUrl(input, flag.api) ?? urlOfOrg(known, wanted, selection?.apiUrl) ?? selection?.apiUrl ?? DEFAULT_API_URL;
  const here = known.filter((account) => account.apiUrl === apiUrl);
  const account = wanted === undefined ? (here.find((one) => one.selected) ?? here[0]) : here.find((one) => one.org === wanted);
  if (account?.token !== undefined) {
    return {
      apiUrl,
      token: checkToken(account.token, "The stored token"),
      org: account.org,
      tokenFrom: { kind: "stored" },
      orgUnproven: false,
    };
  }
  const host = isLoopback(apiUrl) ? input.findHostToken() : undefined;
  if (host) {
    return {
      apiUrl,
      token: checkToken(host.token, host.path),
      org: wanted,
      tokenFrom: { kind: "host", path: host.path },
      orgUnproven: named !== undefined,
    };
  }
  throw new CliError(`There is no token for ${wanted === undefined ? apiUrl : `organization ${wanted} at ${apiUrl}`}.`, {
    hint: `Run \`sprite login ${apiUrl}\`, or set SPRITE_TOKEN.`,
    code: "no_token",
  });
}

/** The sprite a command means: its argument, `-s`, then `.sprite`. */
export function chooseSprite(input: { argument?: string | undefined; flags: GlobalFlags; spriteFile: SpriteFile | undefined }): {
  name: string;
  from: "argument" | "flag" | "file";
} {
  if (input.argument !== undefined && input.flags.sprite !== undefined && input.argument !== input.flags.sprite) {
    throw new CliError(`Two sprites were named: ${input.argument} and ${input.flags.sprite}.`, { hint: "Name one of them.", exitCode: 2 });
  }
  if (input.argument !== undefined) return { name: checkName(input.argument), from: "argument" };
  if (input.flags.sprite !== undefined) return { name: checkName(input.flags.sprite), from: "flag" };
  if (input.spriteFile?.sprite !== undefined) return { name: checkName(input.spriteFile.sprite), from: "file" };
  throw new CliError("No sprite was named.", {
    hint: "Add -s NAME, or choose one for this directory with `sprite use NAME`; `sprite list` shows them.",
    code: "no_sprite",
  });
}

function chosenUrl(input: TargetInput, alias: string | undefined): string | undefined {
  const known = [...new Set(listAccounts(input.accounts).map((account) => account.apiUrl))];
  if (alias !== undefined) return resolveApiUrl(alias, known);
  return input.environment.apiUrl === undefined ? undefined : normalizeApiUrl(input.environment.apiUrl);
}

/** The URL that has an account of `org`: the selected one when it has, else the first. */
function urlOfOrg(known: readonly Account[], org: string | undefined, preferred: string | undefined): string | undefined {
  if (org === undefined) return undefined;
  const matching = known.filter((account) => account.org === org);
  return (matching.find((account) => account.apiUrl === preferred) ?? matching[0])?.apiUrl;
}

/** Refuses a token that could not be sent in a header. */
export function checkToken(token: string, what: string): string {
  const trimmed = token.trim();
  if (trimmed !== "" && /^[\x21-\x7e]+$/.test(trimmed)) return trimmed;
  throw new CliError(`${what} is empty or has characters that no token has.`, {
    hint: "Copy the token again, without spaces or line breaks.",
    code: "token_malformed",
  });
}

function checkName(name: string): string {
  if (name !== "" && !/[\p{Cc}]/u.test(name)) return name;
  throw new CliError("The name of the sprite is empty or has control characters.", { exitCode: 2 });
}
