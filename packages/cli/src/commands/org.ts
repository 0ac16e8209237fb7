/** `sprite org`: the organizations there is a token for. */
import { CliError } from "../output/cli-error.ts";
import { confirm } from "../output/prompt.ts";
import { out } from "../output/style.ts";
import { renderTable } from "../output/table.ts";
import { emptyAccounts, listAccounts, loadAccounts, saveAccounts } from "../settings/accounts.ts";
import { DEFAULT_API_URL, isLoopback, normalizeApiUrl, resolveApiUrl } from "../settings/api-url.ts";
import { type Environment, readEnvironment } from "../settings/environment.ts";
import { findHostToken } from "../settings/load.ts";
import type { CommandContext } from "./catalogue.ts";
import { JSON_FLAG, newCommand, ORG_FLAG } from "./command.ts";
import { signIn } from "./sign-in.ts";

export function build(context: CommandContext) {
  const command = newCommand("sprite org", "The organizations there is a token for.", [
    ["sprite org list", "all of them"],
    ["sprite org auth -o team", "add a token of `team`"],
  ]);
  command.addCommand(auth(context));
  command.addCommand(list());
  command.addCommand(logout());
  return command;
}

function auth(context: CommandContext) {
  return newCommand("auth", "Add a token; its organization becomes the one that is used.", [
    ["sprite org auth local", "the server on this machine"],
  ])
    .argument("[api-url|alias]", "URL of the API, the host of a known one, `local` or `sprites`")
    .option("--token <token>", "the token; others on this machine may see it in the process list")
    .option(ORG_FLAG, "organization that the token must belong to, or api:organization")
    .action((api, options) => signIn({ api, org: options.org ?? context.flags.org, token: options.token }));
}

function list() {
  return newCommand("list", "Show where tokens come from; the one in use has a star.", [["sprite org list --json", "for programs"]])
    .alias("ls")
    .argument("[api-url|alias]", "only this server")
    .option(JSON_FLAG, "print JSON")
    .action((api, options) => {
      const rows = tokenRows(readEnvironment(), api);
      if (options.json) process.stdout.write(`${JSON.stringify(rows.map(jsonRow), undefined, 2)}\n`);
      else if (rows.length === 0) process.stderr.write("There is no token yet; `sprite login` stores one.\n");
      else process.stdout.write(`${table(rows).join("\n")}\n`);
    });
}

function logout() {
  return newCommand("logout", "Remove all stored tokens.", [["sprite org logout --force", "for scripts"]])
    .option("--force", "do not ask")
    .action(async (options) => {
      const { settingsDir } = readEnvironment();
      const count = listAccounts(loadAccounts(settingsDir)).filter((account) => account.token !== undefined).length;
      if (count > 0 && !options.force) {
        if (!process.stdin.isTTY)
          throw new CliError("Will not remove tokens without being asked on a terminal.", { hint: "Add --force.", code: "not_confirmed" });
        if (!(await confirm(`Remove ${count === 1 ? "one token" : `${count} tokens`}?`)))
          throw new CliError("Nothing was removed.", { code: "not_confirmed" });
      }
      if (count > 0) saveAccounts(settingsDir, emptyAccounts());
      process.stdout.write(`removed ${count === 1 ? "one token" : `${count} tokens`}\n`);
    });
}

/** A token that could be used, and where it comes from. Never the token itself. */
interface TokenRow {
  org: string;
  apiUrl: string;
  from: string;
  inUse: boolean;
}

function tokenRows(environment: Environment, api: string | undefined): TokenRow[] {
  const accounts = listAccounts(loadAccounts(environment.settingsDir));
  const rows: TokenRow[] = accounts.map(({ apiUrl, org, token, selected }) => ({
    org,
    apiUrl,
    from: token === undefined ? "not here (another program's)" : "stored by login",
    inUse: selected && token !== undefined,
  }));
  const host = findHostToken(environment);
  const hostUrl = normalizeApiUrl(environment.apiUrl ?? DEFAULT_API_URL);
  if (host && isLoopback(hostUrl)) rows.push({ org: "(of the token)", apiUrl: hostUrl, from: host.path, inUse: false });
  const chosenUrl = environment.apiUrl === undefined ? undefined : normalizeApiUrl(environment.apiUrl);
  if (environment.token)
    rows.unshift({ org: environment.org ?? "(of the token)", apiUrl: chosenUrl ?? DEFAULT_API_URL, from: "SPRITE_TOKEN", inUse: false });
  const only = api === undefined ? undefined : resolveApiUrl(api, [...new Set(accounts.map((account) => account.apiUrl))]);
  return markUsed(rows, environment, chosenUrl).filter((row) => only === undefined || row.apiUrl === only);
}

/** The same order as `chooseServer`: environment, stored for the URL in use, this machine's. */
function markUsed(rows: readonly TokenRow[], environment: Environment, chosenUrl: string | undefined): TokenRow[] {
  const selected = rows.find((row) => row.inUse);
  const url = chosenUrl ?? selected?.apiUrl ?? DEFAULT_API_URL;
  const used = environment.token
    ? rows.find((row) => row.from === "SPRITE_TOKEN")
    : selected?.apiUrl === url
      ? selected
      : rows.find((row) => row.apiUrl === url && !row.from.startsWith("not here"));
  return rows.map((row) => ({ ...row, inUse: row === used }));
}

function table(rows: readonly TokenRow[]): string[] {
  return renderTable<TokenRow>(
    [
      { title: " ", cell: (row) => (row.inUse ? "*" : " "), paint: (text) => out("green", text) },
      { title: "ORGANIZATION", cell: (row) => row.org, paint: (text) => out("bold", text) },
      { title: "API", cell: (row) => row.apiUrl },
      { title: "TOKEN FROM", cell: (row) => row.from },
    ],
    rows,
    { paintTitle: (text) => out("dim", text) },
  );
}

function jsonRow(row: TokenRow): Record<string, unknown> {
  return { organization: row.org.startsWith("(") ? null : row.org, api_url: row.apiUrl, token_from: row.from, in_use: row.inUse };
}
