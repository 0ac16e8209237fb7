/** Organizations on the wire. */
import { z } from "zod";
import { endpoint } from "./endpoint.ts";
import { organizationSlugProblem } from "./names.ts";

export const organizationObject = z.object({
  id: z.string(),
  slug: z.string(),
  name: z.string(),
  created_at: z.iso.datetime(),
});
export type OrganizationObject = z.infer<typeof organizationObject>;

export const createOrganizationRequest = z.strictObject({
  slug: z.string().superRefine((slug, context) => {
    const message = organizationSlugProblem(slug);
    if (message !== undefined) context.addIssue({ code: "custom", message, params: { error: "organization_slug_invalid" } });
  }),
  display_name: z.string().min(1).max(200).optional(),
});
export type CreateOrganizationRequest = z.input<typeof createOrganizationRequest>;

const limit = (what: string) =>
  z
    .int()
    .min(0)
    .nullable()
    .meta({ description: `${what}; null: no limit` });

export const quotaObject = z.strictObject({
  sprites: limit("Sprites, those waiting in pools included"),
  running: limit("Sprites running at the same time"),
  disk_gb: limit("Host disk of sprites, checkpoints and templates, GB"),
  checkpoints: limit("Checkpoints of all sprites"),
});
export type QuotaObject = z.infer<typeof quotaObject>;

export const organizationEndpoints = {
  currentOrganization: endpoint({
    method: "GET",
    path: "/v1/organization",
    kind: "json",
    access: "token",
    tag: "organizations",
    summary: "The organization of the token",
    status: 200,
    response: z.object({
      organization: z.object({
        id: z.string(),
        slug: z.string(),
        name: z.string(),
        sprites_enabled: z.boolean(),
        active_sprites: z.array(z.string()).meta({ description: "Names of running sprites, at most 1000" }),
        max_sprites: z.int().meta({ description: "0: no limit" }),
        active_sprite_limit: z.int().meta({ description: "0: no limit" }),
      }),
    }),
    errors: [],
  }),
  createOrganization: endpoint({
    method: "POST",
    path: "/v1/organizations",
    kind: "json",
    access: "admin",
    tag: "organizations",
    summary: "Create an organization; ours, not part of the official API",
    body: createOrganizationRequest,
    status: 201,
    response: organizationObject,
    errors: ["body_invalid", "field_unknown", "body_too_large", "organization_slug_invalid", "organization_slug_taken"],
  }),
  listOrganizations: endpoint({
    method: "GET",
    path: "/v1/organizations",
    kind: "json",
    access: "admin",
    tag: "organizations",
    summary: "List all organizations; ours, not part of the official API",
    status: 200,
    response: z.object({ organizations: z.array(organizationObject) }),
    errors: [],
  }),
  getQuota: endpoint({
    method: "GET",
    path: "/v1/organizations/{slug}/quota",
    kind: "json",
    access: "admin",
    tag: "organizations",
    summary: "What an organization may have at most; ours, not part of the official API",
    status: 200,
    response: quotaObject,
    errors: ["organization_not_found"],
  }),
  setQuota: endpoint({
    method: "PUT",
    path: "/v1/organizations/{slug}/quota",
    kind: "json",
    access: "admin",
    tag: "organizations",
    summary: "Change what an organization may have at most; ours, not part of the official API",
    description: "Fields that are left out stay as they are; null takes a limit away. What exists beyond a new limit stays.",
    body: quotaObject.partial(),
    status: 200,
    response: quotaObject,
    errors: ["organization_not_found", "body_invalid", "field_unknown", "body_too_large"],
  }),
};
