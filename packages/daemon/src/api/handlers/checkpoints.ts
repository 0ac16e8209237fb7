/** Handlers of checkpoints. */
import { sleep } from "@sprited/base";
import type { CheckpointLine, CheckpointObject } from "@sprited/protocol/api";
import { encodeNdjsonLine } from "@sprited/protocol/stream";
import type { CheckpointList, CheckpointView, Operation, OperationEvent } from "../../checkpoint/index.ts";
import { toApiError } from "../error-map.ts";
import type { ApiContext, HandlerTable } from "../handler.ts";
import { streamReply } from "../stream-reply.ts";
import { timeView } from "../view.ts";

type CheckpointHandlers = Pick<
  HandlerTable,
  "createCheckpoint" | "listCheckpoints" | "getCheckpoint" | "deleteCheckpoint" | "restoreCheckpoint" | "undoRestore"
>;

/** Silence after which a stream says that the work goes on, ms; clients give up after five minutes. */
const STILL_AFTER_MS = 20_000;

export const checkpointHandlers: CheckpointHandlers = {
  createCheckpoint({ params, body, caller, context }) {
    const request = { comment: body?.comment ?? "", memory: body?.memory ?? false };
    const operation = context.features.checkpoints.create(caller.organizationId, params.name, request);
    return progress(context, operation, (row) => ({ id: row.id, memory: row.hasMemory }));
  },

  listCheckpoints({ params, query, caller, context }) {
    const list = context.features.checkpoints.list(caller.organizationId, params.name, {
      history: query.history,
      includeAuto: query.includeAuto ?? false,
    });
    return [...list.checkpoints.map(checkpointView), currentView(list)];
  },

  getCheckpoint({ params, caller, context }) {
    return checkpointView(context.features.checkpoints.get(caller.organizationId, params.name, params.id));
  },

  async deleteCheckpoint({ params, caller, context }) {
    await context.features.checkpoints.delete(caller.organizationId, params.name, params.id);
    return undefined;
  },

  restoreCheckpoint({ params, caller, context }) {
    const operation = context.features.checkpoints.restore(caller.organizationId, params.name, params.id);
    return progress(context, operation, restoredFacts);
  },

  undoRestore({ params, caller, context }) {
    const operation = context.features.checkpoints.undoRestore(caller.organizationId, params.name);
    return progress(context, operation, restoredFacts);
  },
};

function restoredFacts(restored: { checkpoint: { id: string }; previous: { id: string }; withMemory: boolean }) {
  return { id: restored.checkpoint.id, previous: restored.previous.id, memory: restored.withMemory };
}

function checkpointView(checkpoint: CheckpointView): CheckpointObject {
  return {
    id: checkpoint.id,
    create_time: timeView(checkpoint.createdAtMs),
    comment: checkpoint.comment,
    history: checkpoint.history,
    is_auto: checkpoint.isAuto,
    source_id: checkpoint.parentId ?? "",
    health: checkpoint.health,
    state: checkpoint.state,
    memory: checkpoint.hasMemory,
    current: checkpoint.isCurrent,
    disk_bytes: checkpoint.diskBytes,
    memory_bytes: checkpoint.memoryBytes,
  };
}

/** The present state as an entry of the list. */
function currentView({ checkpoints, currentHistory, createdAtMs }: CheckpointList): CheckpointObject {
  const source = currentHistory[0];
  const made = checkpoints.find(({ id }) => id === source)?.createdAtMs;
  return {
    id: "Current",
    create_time: timeView(made ?? createdAtMs),
    comment: "",
    history: currentHistory,
    is_auto: false,
    source_id: source ?? "",
    health: "",
    state: "current",
    memory: false,
    current: true,
    disk_bytes: 0,
    memory_bytes: 0,
  };
}

/** The events of an operation as NDJSON. The work goes on when the client leaves. */
function progress<R>(context: ApiContext, operation: Operation<R>, facts: (result: R) => Partial<CheckpointLine>): Response {
  return streamReply({
    contentType: "application/x-ndjson",
    async *pieces(clientGone) {
      const events = operation.events();
      let next = events.next();
      for (;;) {
        const still = new AbortController();
        const step = await Promise.race([next, sleep(STILL_AFTER_MS, { signal: AbortSignal.any([still.signal, clientGone]) })]).finally(
          () => still.abort(),
        );
        if (step === undefined) {
          yield line({ type: "info", data: "Still working...", time: timeView(context.clock.nowMs()) });
          continue;
        }
        if (step.done) return;
        yield line(lineOf(step.value, facts));
        next = events.next();
      }
    },
    onEnd(outcome, error) {
      if (outcome === "failed") context.logger.warn({ event: "checkpoint.stream", outcome, err: error }, "a progress stream failed");
    },
  });
}

function lineOf<R>(event: OperationEvent<R>, facts: (result: R) => Partial<CheckpointLine>): CheckpointLine {
  const time = timeView(event.atMs);
  if (event.type === "info") return { type: "info", data: event.text, time };
  if (event.type === "complete") return { type: "complete", data: event.text, time, ...facts(event.result) };
  const error = toApiError(event.error);
  return { type: "error", error: error.message, data: error.message, code: error.code, time };
}

function line(value: CheckpointLine): Uint8Array {
  return Buffer.from(encodeNdjsonLine(value));
}
