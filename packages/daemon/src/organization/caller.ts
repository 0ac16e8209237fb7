/** Who a request comes from, and what it may touch. */
import { ApiError } from "@sprited/protocol/errors";

export interface Caller {
  organizationId: string;
  organizationSlug: string;
  tokenId: string;
  /** May manage organizations and tokens. */
  admin: boolean;
  /** Only sprites whose names begin so; undefined: all of the organization. */
  namePrefix: string | undefined;
}

/** Throws `token_name_prefix` when the caller's token does not cover sprites of this name. */
export function requireSpriteName(caller: Caller, name: string): void {
  if (caller.namePrefix === undefined || name.startsWith(caller.namePrefix)) return;
  throw new ApiError("token_name_prefix", `this token is restricted to sprites whose names begin with "${caller.namePrefix}"`);
}

/** Throws `forbidden` for tokens that are not admin tokens. */
export function requireAdmin(caller: Caller): void {
  if (!caller.admin) throw new ApiError("forbidden", "only an admin token may make this call");
}
