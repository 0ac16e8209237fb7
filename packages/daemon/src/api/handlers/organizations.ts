/** Handlers of organizations and tokens. */
import { API_LIMITS } from "@sprited/protocol/api";
import type { QuotaLimits } from "../../organization/index.ts";
import type { HandlerTable } from "../handler.ts";
import { organizationView, tokenView } from "../view.ts";

type OrganizationHandlers = Pick<
  HandlerTable,
  | "currentOrganization"
  | "createOrganization"
  | "listOrganizations"
  | "getQuota"
  | "setQuota"
  | "createToken"
  | "listTokens"
  | "revokeToken"
>;

export const organizationHandlers: OrganizationHandlers = {
  currentOrganization({ caller, context }) {
    const organization = context.features.organizations.get(caller.organizationSlug);
    const quota = context.features.quotas.of(organization.id);
    const { sprites } = context.features.sprites.list(caller.organizationId, { prefix: caller.namePrefix, maxResults: API_LIMITS.pageMax });
    return {
      organization: {
        id: organization.id,
        slug: organization.slug,
        name: organization.name,
        sprites_enabled: true,
        active_sprites: sprites.filter(({ status }) => status === "running").map(({ name }) => name),
        max_sprites: quota.sprites ?? 0,
        active_sprite_limit: quota.running ?? 0,
      },
    };
  },

  createOrganization({ body, context }) {
    return organizationView(context.features.organizations.create(body.slug, body.display_name ?? body.slug));
  },

  listOrganizations({ context }) {
    return { organizations: context.features.organizations.list().map(organizationView) };
  },

  getQuota({ params, context }) {
    const { id } = context.features.organizations.get(params.slug);
    return quotaView(context.features.quotas.of(id));
  },

  setQuota({ params, body, context }) {
    const { id } = context.features.organizations.get(params.slug);
    const { quotas } = context.features;
    const present = quotaView(quotas.of(id));
    const asked = { ...present, ...body };
    quotas.set(id, {
      sprites: asked.sprites ?? undefined,
      running: asked.running ?? undefined,
      diskGb: asked.disk_gb ?? undefined,
      checkpoints: asked.checkpoints ?? undefined,
    });
    return quotaView(quotas.of(id));
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

function quotaView(limits: QuotaLimits) {
  return {
    sprites: limits.sprites ?? null,
    running: limits.running ?? null,
    disk_gb: limits.diskGb ?? null,
    checkpoints: limits.checkpoints ?? null,
  };
}
