/** Tokens on the wire. Issuing them is ours; the shape of the first call is the official one. */
import { z } from "zod";
import { endpoint } from "./endpoint.ts";
import { spriteNameProblem } from "./names.ts";

export const createTokenRequest = z.strictObject({
  description: z.string().max(200).optional(),
  invite_code: z.string().max(200).optional().meta({ description: "Accepted and ignored" }),
  name_prefix: z
    .string()
    .superRefine((prefix, context) => {
      // A prefix may end with a hyphen; followed by a character it must be a valid name.
      const message = prefix === "" ? "name_prefix must not be empty" : spriteNameProblem(`${prefix}0`);
      if (message !== undefined) context.addIssue({ code: "custom", message, params: { error: "name_invalid" } });
    })
    .optional()
    .meta({ description: "Only sprites whose names begin so; ours" }),
  admin: z.boolean().optional().meta({ description: "May manage organizations and tokens; ours" }),
});
export type CreateTokenRequest = z.input<typeof createTokenRequest>;

export const tokenObject = z.object({
  id: z.string(),
  organization: z.string().meta({ description: "Slug" }),
  description: z.string(),
  name_prefix: z.string().nullable(),
  admin: z.boolean(),
  created_at: z.iso.datetime(),
  last_used_at: z.iso.datetime().nullable().meta({ description: "To the minute" }),
  revoked_at: z.iso.datetime().nullable(),
});
export type TokenObject = z.infer<typeof tokenObject>;

export const tokenEndpoints = {
  createToken: endpoint({
    method: "POST",
    path: "/v1/organizations/{slug}/tokens",
    kind: "json",
    access: "admin",
    tag: "tokens",
    summary: "Issue a token",
    description: "`token` is shown once; the server keeps a hash.",
    body: createTokenRequest.optional(),
    status: 201,
    response: tokenObject.extend({ token: z.string() }),
    errors: ["organization_not_found", "body_invalid", "field_unknown", "body_too_large", "name_invalid"],
  }),
  listTokens: endpoint({
    method: "GET",
    path: "/v1/organizations/{slug}/tokens",
    kind: "json",
    access: "admin",
    tag: "tokens",
    summary: "List an organization's tokens, also revoked ones",
    status: 200,
    response: z.object({ tokens: z.array(tokenObject) }),
    errors: ["organization_not_found"],
  }),
  revokeToken: endpoint({
    method: "DELETE",
    path: "/v1/organizations/{slug}/tokens/{token_id}",
    kind: "json",
    access: "admin",
    tag: "tokens",
    summary: "Revoke a token at once",
    status: 204,
    errors: ["organization_not_found", "token_not_found"],
  }),
};
