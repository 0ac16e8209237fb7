/** From the `Authorization` header to a caller, and what the caller may call. */
import type { Endpoint } from "@sprited/protocol/api";
import { ApiError } from "@sprited/protocol/errors";
import { type Caller, type Organizations, requireAdmin, requireSpriteName } from "../organization/index.ts";

/**
 * Checks that a request may call `endpoint`. The official clients mint tokens with the scheme
 * `FlyV1`, so both schemes take a token of ours. Throws `unauthorized`, `token_revoked`,
 * `forbidden`, `token_name_prefix`.
 */
export function authorize(
  organizations: Organizations,
  authorization: string | undefined,
  endpoint: Pick<Endpoint, "access">,
  params: Record<string, string>,
): Caller {
  const match = /^(?:bearer|flyv1) +([^\s]+) *$/i.exec(authorization ?? "");
  if (!match?.[1]) throw new ApiError("unauthorized", "a token is needed: Authorization: Bearer <token>");
  const caller = organizations.authenticate(match[1]);
  if (endpoint.access === "admin") requireAdmin(caller);
  if (params["name"] !== undefined) requireSpriteName(caller, params["name"]);
  return caller;
}
