/** Handlers of organizations and tokens. */
import { API_LIMITS } from "@sprited/protocol/api";
import type { HandlerTable } from "../handler.ts";
import { organizationView, tokenView } from "../view.ts";

type OrganizationHandlers = Pick<
  HandlerTable,
  "currentOrganization" | "createOrganization" | "listOrganizations" | "createToken" | "listTokens" | "revokeToken"
>;

export const organizationHandlers: OrganizationHandlers = {
  currentOrganization({ caller, context }) {
    const organization = context.features.organizations.get(caller.organizationSlug);
    const { sprites } = context.features.sprites.list(caller.organizationId, { prefix: caller.namePrefix, maxResults: API_LIMITS.pageMax });
    return {
      organization: {
        id: organization.id,
        slug: organization.slug,
        name: organization.name,
        sprites_enabled: true,
        active_sprites: sprites.filter(({ status }) => status === "running").map(({ name }) => name),
        max_sprites: 0,
        active_sprite_limit: 0,
      },
    };
  },

  createOrganization({ body, context }) {
    return organizationView(context.features.organizations.create(body.slug, body.display_name ?? body.slug));
  },

  listOrganizations({ context }) {
    return { organizations: context.features.organizations.list().map(organizationView) };
  },

  createToken({ params, body, context }) {
    const { organizations } = context.features;
    const organization = organizations.get(params.slug);
    const { record, text } = organizations.createToken(organization, {
      description: body?.description ?? "",
      namePrefix: body?.name_prefix,
      admin: body?.admin ?? false,
    });
    return { ...tokenView(record, organization.slug), token: text };
  },

  listTokens({ params, context }) {
    const { organizations } = context.features;
    const organization = organizations.get(params.slug);
    return { tokens: organizations.listTokens(organization).map((token) => tokenView(token, organization.slug)) };
  },

  revokeToken({ params, context }) {
    const { organizations } = context.features;
    organizations.revokeToken(organizations.get(params.slug), params.token_id);
    return undefined;
  },
};
