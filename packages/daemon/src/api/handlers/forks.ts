/** Handlers of forks. */
import { requireSpriteName } from "../../organization/index.ts";
import type { HandlerTable } from "../handler.ts";
import { spriteView } from "../view.ts";

export const forkHandlers: Pick<HandlerTable, "forkSprite"> = {
  async forkSprite({ params, body, caller, context, signal }) {
    for (const name of body?.names ?? []) requireSpriteName(caller, name);
    const sprites = await context.features.forks.fork(
      {
        organizationId: caller.organizationId,
        source: params.name,
        names: body?.names,
        count: body?.count,
        memory: body?.memory ?? false,
        labels: body?.labels,
      },
      { signal },
    );
    return { sprites: sprites.map((sprite) => spriteView(context, sprite)) };
  },
};
