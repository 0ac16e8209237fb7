/** The list of sprites: pages, and the live form that streams every change. */
import { ignore, sleep } from "@sprited/base";
import { API_LIMITS, type SpriteWatchLine } from "@sprited/protocol/api";
import { encodeNdjsonLine } from "@sprited/protocol/stream";
import type { Caller } from "../../organization/index.ts";
import type { SpriteView } from "../../sprite/sprite.ts";
import type { ApiContext, HandlerTable } from "../handler.ts";
import { streamReply } from "../stream-reply.ts";
import { countersView, spriteEntryView, spriteView, timeView } from "../view.ts";

export const listSprites: HandlerTable["listSprites"] = ({ query, caller, context, request }) => {
  const prefix = effectivePrefix(query.prefix, caller.namePrefix);
  const maxResults = Math.min(Math.max(query.max_results ?? API_LIMITS.pageDefault, 1), API_LIMITS.pageMax);
  if (wantsStream(request))
    return watchSprites(context, caller, { prefix, maxResults: query.max_results === undefined ? API_LIMITS.pageMax : maxResults });
  const { sprites } = context.features;
  const page =
    prefix === undefined
      ? { sprites: [], continuationToken: undefined }
      : sprites.list(caller.organizationId, { prefix, continuationToken: query.continuation_token, maxResults });
  const counters = countersView(caller.organizationSlug, sprites.counts(caller.organizationId));
  const view = query.bulk_load ? spriteEntryView : spriteView;
  return {
    sprites: page.sprites.map((sprite) => view(context, sprite)),
    has_more: page.continuationToken !== undefined,
    next_continuation_token: page.continuationToken ?? null,
    ...counters,
    org: counters,
  };
};

/** The longer of the asked and the token's prefix; undefined when no name can have both. */
function effectivePrefix(asked: string | undefined, ofToken: string | undefined): string | undefined {
  const [a, b] = [asked ?? "", ofToken ?? ""];
  if (a.startsWith(b)) return a;
  return b.startsWith(a) ? b : undefined;
}

/** Only when the header names NDJSON itself: clients of the plain list send a wildcard. */
function wantsStream(request: Request): boolean {
  return request.method === "GET" && (request.headers.get("accept") ?? "").toLowerCase().includes("application/x-ndjson");
}

/**
 * Every sprite once, then each change. A client that reads slowly gets the newest state of each
 * sprite, not every step in between, so what waits for it is bounded by the number of sprites.
 */
function watchSprites(context: ApiContext, caller: Caller, query: { prefix: string | undefined; maxResults: number }): Response {
  const { sprites } = context.features;
  const { prefix } = query;
  return streamReply({
    contentType: "application/x-ndjson",
    async *pieces(clientGone) {
      if (prefix === undefined) return;
      const signal = AbortSignal.any([clientGone, context.shutdown]);
      const changes = new Changes();
      const unsubscribe = sprites.subscribe((view, change) => {
        if (view.organizationId === caller.organizationId && view.name.startsWith(prefix)) changes.put(view, change);
      });
      try {
        for (const view of sprites.list(caller.organizationId, { prefix, maxResults: query.maxResults }).sprites) changes.putFirst(view);
        for (let first = true; !signal.aborted; first = false) {
          const change = changes.take();
          if (change) yield encode(context, caller, change);
          else if (!first && (await changes.arrival(context.timings.keepAliveMs, signal))) continue;
          else if (!signal.aborted) yield encode(context, caller, undefined);
        }
      } finally {
        unsubscribe();
      }
    },
  });
}

interface Change {
  view: SpriteView;
  deleted: boolean;
}

/** Changes that were not sent yet, the newest of each sprite, in the order of the first of them. */
class Changes {
  readonly #waiting = new Map<string, Change>();
  #wake: () => void = () => {};

  put(view: SpriteView, change: "changed" | "deleted"): void {
    this.#waiting.set(view.id, { view, deleted: change === "deleted" });
    this.#wake();
  }

  /** What is known at the start; a change that came since is newer. */
  putFirst(view: SpriteView): void {
    if (!this.#waiting.has(view.id)) this.put(view, "changed");
  }

  take(): Change | undefined {
    const [id] = this.#waiting.keys();
    if (id === undefined) return undefined;
    const change = this.#waiting.get(id);
    this.#waiting.delete(id);
    return change;
  }

  /** True when a change waits, false when `ms` passed without one or the client went. */
  async arrival(ms: number, signal: AbortSignal): Promise<boolean> {
    if (this.#waiting.size > 0) return true;
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    await sleep(ms, { signal: AbortSignal.any([signal, woken.signal]) }).catch(ignore("something came, or the client left"));
    return this.#waiting.size > 0;
  }
}

/** A line for a change; a heartbeat without one. */
function encode(context: ApiContext, caller: Caller, change: Change | undefined): Uint8Array {
  const line: SpriteWatchLine = {
    type: change === undefined ? "heartbeat" : change.deleted ? "deleted" : "sprite",
    timestamp: timeView(context.clock.nowMs()),
    org: countersView(caller.organizationSlug, context.features.sprites.counts(caller.organizationId)),
  };
  if (change) {
    const { view } = change;
    line.name = view.name;
    line.status = view.status;
    line.running_version = context.version;
    line.last_running_at = view.lastRunningAtMs === undefined ? null : timeView(view.lastRunningAtMs);
    line.last_warming_at = null;
  }
  return Buffer.from(encodeNdjsonLine(line));
}
