/** Handlers about the server itself. */
import { openApiDocument } from "@sprited/protocol/api";
import { ApiError } from "@sprited/protocol/errors";
import type { HandlerTable } from "../handler.ts";

export const systemHandlers: Pick<HandlerTable, "health" | "openapi" | "collectGarbage" | "readMetrics"> = {
  health({ context }) {
    const state = context.state();
    if (state !== "ready") throw new ApiError("not_ready", `the server is ${state}`);
    return { status: state, version: context.version };
  },

  async collectGarbage({ body, context }) {
    const dryRun = body?.dry_run ?? false;
    const items = await context.features.garbage.run({ dryRun });
    return { removed: !dryRun, items, bytes: items.reduce((sum, { bytes }) => sum + bytes, 0) };
  },

  async readMetrics({ context }) {
    const { metrics } = context.features;
    return new Response(await metrics.text({ version: context.version }), { headers: { "content-type": metrics.contentType } });
  },

  openapi({ context }) {
    return openApiDocument({ version: context.version, serverUrl: context.baseUrl() });
  },
};
