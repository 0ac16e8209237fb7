/** Handlers of sprites. */
import { requireSpriteName } from "../../organization/index.ts";
import type { HandlerTable } from "../handler.ts";
import { spriteView, timeView } from "../view.ts";
import { listSprites } from "./sprite-list.ts";

type SpriteHandlers = Pick<
  HandlerTable,
  | "createSprite"
  | "listSprites"
  | "getSprite"
  | "updateSprite"
  | "deleteSprite"
  | "restartSprite"
  | "checkSprite"
  | "upgradeSprite"
  | "sleepSprite"
  | "wakeSprite"
>;

/** A label that begins so routes a create to a pool (POOL-14). */
const POOL_LABEL = "pool:";

export const spriteHandlers: SpriteHandlers = {
  async createSprite({ body, caller, context, signal }) {
    requireSpriteName(caller, body.name);
    const { sprites, templates, pools } = context.features;
    const { organizationId } = caller;
    const { name, environment = {} } = body;
    const labels = unique(body.labels ?? []);
    const pool = labels.find((label) => label.startsWith(POOL_LABEL))?.slice(POOL_LABEL.length);
    if (pool !== undefined) {
      const claim = { name, labels, environment, idempotencyKey: undefined, isPatient: true };
      return spriteView(context, await pools.claim(organizationId, pool, claim, { signal }));
    }
    const request = {
      organizationId,
      name,
      config: definedOnly({ cpus: body.config?.cpus, memoryMib: body.config?.ram_mb, storageGb: body.config?.storage_gb }),
      environment,
      labels,
      urlSettings: urlSettings(body.url_settings),
      idleSeconds: body.config?.idle_seconds,
      imageName: body.image,
    };
    const sprite =
      body.template === undefined
        ? await sprites.create(request, { signal })
        : await templates.createSprite(body.template, request, { signal });
    return spriteView(context, sprite);
  },

  listSprites,

  getSprite({ params, caller, context }) {
    return spriteView(context, context.features.sprites.get(caller.organizationId, params.name));
  },

  async updateSprite({ params, body, caller, context }) {
    const labels = body.labels ?? (body.clear_labels ? [] : undefined);
    const sprite = await context.features.sprites.update(caller.organizationId, params.name, {
      ...(labels === undefined ? {} : { labels: unique(labels) }),
      idleSeconds: body.config?.idle_seconds,
      ...(body.url_settings === undefined ? {} : { urlSettings: urlSettings(body.url_settings) }),
    });
    return spriteView(context, sprite);
  },

  async deleteSprite({ params, caller, context }) {
    await context.features.sprites.delete(caller.organizationId, params.name);
    return undefined;
  },

  async restartSprite({ params, caller, context }) {
    const { incarnation } = await context.features.sprites.restart(caller.organizationId, params.name);
    return { sprite_name: params.name, machine_id: incarnation, message: "the sprite was restarted" };
  },

  async checkSprite({ params, caller, context }) {
    const sprite = context.features.sprites.get(caller.organizationId, params.name);
    const check = await context.features.sprites.check(caller.organizationId, params.name);
    return {
      sprite_name: sprite.name,
      sprite_id: sprite.id,
      status: check.status,
      reason: check.reason ?? null,
      checked_at: timeView(context.clock.nowMs()),
      elapsed: Math.round(check.elapsedMs),
    };
  },

  upgradeSprite({ params, caller, context }) {
    const sprite = context.features.sprites.get(caller.organizationId, params.name);
    return {
      name: sprite.name,
      status: "current",
      message: "nothing to upgrade: a sprite takes up the server's newest runtime whenever it starts",
    };
  },

  async sleepSprite({ params, body, caller, context }) {
    const { sprites } = context.features;
    const sprite =
      body?.cold === true
        ? await sprites.stop(caller.organizationId, params.name)
        : await sprites.sleep(caller.organizationId, params.name);
    return spriteView(context, sprite);
  },

  async wakeSprite({ params, caller, context, signal }) {
    return spriteView(context, await context.features.sprites.wake(caller.organizationId, params.name, { signal }));
  },
};

interface UrlSettingsBody {
  auth?: "sprite" | "public" | undefined;
  private_access?: string | undefined;
}

function urlSettings(body: UrlSettingsBody | undefined) {
  return definedOnly({ auth: body?.auth, privateAccess: body?.private_access });
}

/** The object without the fields that are undefined, for "left out means unchanged". */
function definedOnly<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

function unique(labels: readonly string[]): string[] {
  return [...new Set(labels)];
}
