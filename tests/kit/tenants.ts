/** Organizations and tokens for tests about who may do what. */
import type { TokenObject } from "@sprited/protocol/api";
import { ask } from "./http.ts";
import { type Target, uniqueName } from "./target.ts";

export type IssuedToken = TokenObject & { token: string };

/** Issues a token in the target's own organization or in `organization`. */
export async function issueToken(
  target: Target,
  request: { name_prefix?: string; admin?: boolean } = {},
  organization = target.organization,
): Promise<IssuedToken> {
  const answer = await ask(target, `/v1/organizations/${organization}/tokens`, {
    method: "POST",
    json: { description: "test", ...request },
  });
  if (answer.status !== 201) throw new Error(`issuing a token was answered ${answer.status}: ${answer.text}`);
  return answer.json() as unknown as IssuedToken;
}

export async function revokeToken(target: Target, token: IssuedToken): Promise<void> {
  const answer = await ask(target, `/v1/organizations/${token.organization}/tokens/${token.id}`, { method: "DELETE" });
  if (answer.status !== 204) throw new Error(`revoking a token was answered ${answer.status}: ${answer.text}`);
}

/** The same server seen by a member of a new organization. */
export async function newTenant(target: Target): Promise<Target> {
  const slug = uniqueName("org").slice(0, 32);
  const answer = await ask(target, "/v1/organizations", { method: "POST", json: { slug } });
  if (answer.status !== 201) throw new Error(`creating an organization was answered ${answer.status}: ${answer.text}`);
  const { token } = await issueToken(target, {}, slug);
  return { kind: target.kind, baseUrl: target.baseUrl, organization: slug, token };
}

/** Creates a sprite with the server's defaults; throws unless it is answered 201. */
export async function createSprite(target: Target, name: string, settings: Record<string, unknown> = {}): Promise<void> {
  const answer = await ask(target, "/v1/sprites", { method: "POST", json: { name, ...settings } });
  if (answer.status !== 201) throw new Error(`creating ${name} was answered ${answer.status}: ${answer.text}`);
}
