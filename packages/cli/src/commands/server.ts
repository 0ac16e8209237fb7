/** The server a command talks to, with the organization checked where the user named one. */
import type { GlobalFlags } from "../args/command-line.ts";
import { getOrganization } from "../api/sprites.ts";
import { CliError } from "../output/cli-error.ts";
import { loadServer, loadTarget, type Target } from "../settings/load.ts";
import { splitOrgFlag } from "../settings/api-url.ts";
import type { Server } from "../settings/target.ts";

export async function loadVerifiedServer(flags: GlobalFlags): Promise<Server> {
  return verify(loadServer(flags), flags);
}

export async function loadVerifiedTarget(flags: GlobalFlags, argument?: string): Promise<Target> {
  const target = loadTarget(flags, argument);
  return { ...target, server: await verify(target.server, flags) };
}

/**
 * A token stands for one organization. When the user named one and the token was not stored for
 * it, the server is asked, so that no command touches another organization by mistake.
 */
async function verify(server: Server, flags: GlobalFlags): Promise<Server> {
  if (!server.orgUnproven || server.org === undefined) return server;
  const org = await getOrganization(server);
  if (org === server.org) return server;
  const from = splitOrgFlag(flags.org ?? "").org !== undefined ? "-o" : "SPRITE_ORG";
  throw new CliError(`The token belongs to organization ${org}, not to ${server.org} (${from}).`, {
    hint: `Run \`sprite org auth -o ${server.org}\` with a token of ${server.org}, or leave out ${from}.`,
    code: "other_organization",
  });
}
