import type { ApiClient } from "@sprited/protocol/client";
import { askDaemon } from "./api.ts";
import { renderTable } from "./terminal.ts";

/** `sprited token …`: tokens of an organization, through the running daemon's API. */

export interface TokenTarget {
  /** Slug; the admin token's own organization when left out. */
  organization?: string | undefined;
}

/** Issues a token; returns its text, which is shown once. */
export async function createToken(
  client: ApiClient,
  options: TokenTarget & { description?: string | undefined; prefix?: string | undefined; admin?: boolean | undefined },
): Promise<string> {
  const slug = await organizationOf(client, options);
  const answer = await askDaemon(client, async () =>
    client.call("createToken", {
      params: { slug },
      body: {
        ...(options.description === undefined ? {} : { description: options.description }),
        ...(options.prefix === undefined ? {} : { name_prefix: options.prefix }),
        ...(options.admin === true ? { admin: true } : {}),
      },
    }),
  );
  return answer.token;
}

/** The organization's tokens as a table. */
export async function listTokens(client: ApiClient, options: TokenTarget): Promise<string> {
  const slug = await organizationOf(client, options);
  const { tokens } = await askDaemon(client, async () => client.call("listTokens", { params: { slug } }));
  const rows = tokens.map((token) => [
    token.id,
    token.revoked_at === null ? "valid" : "revoked",
    token.admin ? "admin" : (token.name_prefix ?? "all sprites"),
    token.created_at,
    token.last_used_at ?? "never used",
    token.description,
  ]);
  return renderTable([["ID", "STATE", "SCOPE", "CREATED", "LAST USED", "DESCRIPTION"], ...rows]);
}

/** Revokes a token at once. */
export async function revokeToken(client: ApiClient, options: TokenTarget & { id: string }): Promise<void> {
  const slug = await organizationOf(client, options);
  await askDaemon(client, async () => client.call("revokeToken", { params: { slug, token_id: options.id } }));
}

/** Slug of the organization that is named, or of the admin token. */
export async function organizationOf(client: ApiClient, options: TokenTarget): Promise<string> {
  if (options.organization !== undefined) return options.organization;
  const { organization } = await askDaemon(client, async () => client.call("currentOrganization", {}));
  return organization.slug;
}
