/** Handlers of sprites as one file. */
import { Readable } from "node:stream";
import { spriteNameProblem } from "@sprited/protocol/api";
import { ApiError } from "@sprited/protocol/errors";
import { requireSpriteName } from "../../organization/index.ts";
import type { HandlerTable } from "../handler.ts";
import { streamReply } from "../stream-reply.ts";
import { spriteView } from "../view.ts";

export const archiveHandlers: Pick<HandlerTable, "exportSprite" | "importSprite"> = {
  async exportSprite({ params, query, caller, context }) {
    const { organizationId } = caller;
    const archive = await context.features.archives.export({ organizationId, name: params.name, checkpointId: query.checkpoint });
    return streamReply({
      contentType: "application/zstd",
      async *pieces() {
        for await (const chunk of archive) yield chunk as Uint8Array;
      },
      onEnd(outcome, error) {
        archive.destroy();
        if (outcome === "failed")
          context.logger.error({ event: "archive.export", outcome, sprite: params.name, err: error }, "an export broke off");
      },
    });
  },

  async importSprite({ params, caller, context, request, signal }) {
    const problem = spriteNameProblem(params.name);
    if (problem !== undefined) throw new ApiError("name_invalid", problem);
    requireSpriteName(caller, params.name);
    const body = request.body ? Readable.fromWeb(request.body as Parameters<typeof Readable.fromWeb>[0]) : Readable.from([]);
    const sprite = await context.features.archives.import({ organizationId: caller.organizationId, name: params.name }, body, { signal });
    return spriteView(context, sprite);
  },
};
