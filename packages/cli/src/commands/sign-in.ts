/** Storing a token: asked for or given, checked against the server, then selected. */
import { ApiError } from "@sprited/protocol/errors";
import { getOrganization } from "../api/sprites.ts";
import { CliError } from "../output/cli-error.ts";
import { readSecret } from "../output/prompt.ts";
import { Spinner } from "../output/spinner.ts";
import { err } from "../output/style.ts";
import { listAccounts, loadAccounts, saveAccounts, withAccount } from "../settings/accounts.ts";
import { DEFAULT_API_URL, isLoopback, normalizeApiUrl, resolveApiUrl, splitOrgFlag } from "../settings/api-url.ts";
import { readEnvironment } from "../settings/environment.ts";
import { checkToken } from "../settings/target.ts";

export interface SignIn {
  /** URL or alias; else the one of `-o`, of the environment, the default. */
  api: string | undefined;
  /** `-o`: the token must belong to this organization. */
  org: string | undefined;
  /** Asked for when undefined. */
  token: string | undefined;
}

export async function signIn(request: SignIn): Promise<void> {
  const environment = readEnvironment();
  const accounts = loadAccounts(environment.settingsDir);
  const flag = splitOrgFlag(request.org ?? "");
  const known = [...new Set(listAccounts(accounts).map((account) => account.apiUrl))];
  const named = request.api ?? flag.api;
  const apiUrl = named === undefined ? normalizeApiUrl(environment.apiUrl ?? DEFAULT_API_URL) : resolveApiUrl(named, known);
  if (apiUrl.startsWith("http:") && !isLoopback(apiUrl)) {
    process.stderr.write(`${err("yellow", "note:")} ${apiUrl} is not encrypted; anyone on the way can read the token\n`);
  }
  const token = checkToken(request.token ?? (await readSecret(`Token for ${apiUrl}: `)), "The token");
  const org = await organizationOf({ apiUrl, token });
  if (flag.org !== undefined && flag.org !== org) {
    throw new CliError(`This token belongs to organization ${org}, not to ${flag.org}.`, {
      hint: `Use a token of ${flag.org}, or leave out -o.`,
      code: "other_organization",
    });
  }
  saveAccounts(environment.settingsDir, withAccount(accounts, { apiUrl, org, token }));
  process.stdout.write(`logged in to ${apiUrl} as organization ${org}\n`);
  if (environment.token) process.stderr.write(`${err("yellow", "note:")} SPRITE_TOKEN is set and is used instead of the stored token\n`);
}

async function organizationOf(address: { apiUrl: string; token: string }): Promise<string> {
  using spinner = new Spinner();
  spinner.show(`asking ${address.apiUrl}`);
  try {
    return await getOrganization(address);
  } catch (error) {
    if (!ApiError.is(error) || error.status !== 401) throw error;
    throw new CliError(`${address.apiUrl} does not accept this token.`, {
      hint: "Copy it again; the token of a server on its own machine is in $SPRITED_HOME/token.",
      code: error.code,
      cause: error,
    });
  }
}
