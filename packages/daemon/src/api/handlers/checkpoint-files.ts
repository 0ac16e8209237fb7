/** Handlers of files in checkpoints: those of a sprite's files, over a throwaway machine, and their comparison. */
import type { CheckpointDiffLine } from "@sprited/protocol/api";
import { encodeNdjsonLine } from "@sprited/protocol/stream";
import { differences, everyFile, type FileDifference, readerName } from "../../checkpoint/index.ts";
import { toApiError } from "../error-map.ts";
import type { ApiContext, HandlerTable } from "../handler.ts";
import { streamReply } from "../stream-reply.ts";
import { fileHandlers } from "./files.ts";

type CheckpointFileHandlers = Pick<
  HandlerTable,
  "listCheckpointFiles" | "statCheckpointFile" | "readCheckpointFile" | "readCheckpointTree" | "diffCheckpoints"
>;

export const checkpointFileHandlers: CheckpointFileHandlers = {
  listCheckpointFiles: (call) => fileHandlers.listFiles({ ...call, ...inside(call) }),
  statCheckpointFile: (call) => fileHandlers.statFile({ ...call, ...inside(call) }),
  readCheckpointFile: (call) => fileHandlers.readFile({ ...call, ...inside(call) }),
  readCheckpointTree: (call) => fileHandlers.readTree({ ...call, ...inside(call) }),

  diffCheckpoints({ params, query, caller, context }) {
    const { organizationId } = caller;
    for (const id of [params.id, query.to]) context.features.checkpoints.get(organizationId, params.name, id);
    return streamReply({
      contentType: "application/x-ndjson",
      async *pieces(signal) {
        try {
          const filesOf = (id: string) =>
            everyFile(async (path, recursive) => {
              const scope = { organizationId, spriteName: readerName(params.name, id), signal };
              return await context.features.checkpointFiles.list(scope, { path, recursive, pattern: null, as_root: true, dir: "/" });
            });
          const found = await differences(filesOf(params.id), filesOf(query.to));
          for (const difference of found) yield line(lineOf(difference));
          const count = (kind: FileDifference["kind"]): number => found.filter((one) => one.kind === kind).length;
          yield line({ type: "complete", added: count("added"), removed: count("removed"), changed: count("changed") });
        } catch (thrown) {
          const error = toApiError(thrown);
          context.logger.warn({ event: "checkpoint.diff", outcome: error.code, err: error }, "checkpoints could not be compared");
          yield line({ type: "error", error: error.message, code: error.code });
        }
      },
    });
  },
};

/** What makes a call one on the checkpoint's files as if it were a sprite. */
function inside({ params, context }: { params: { name: string; id: string }; context: ApiContext }) {
  const features = { ...context.features, files: context.features.checkpointFiles };
  return { params: { name: readerName(params.name, params.id) }, context: { ...context, features } };
}

function lineOf({ kind, path, type, sizeBefore, sizeAfter }: FileDifference): CheckpointDiffLine {
  return {
    type: kind,
    path,
    file: type,
    ...(sizeBefore === undefined ? {} : { size_before: sizeBefore }),
    ...(sizeAfter === undefined ? {} : { size_after: sizeAfter }),
  };
}

function line(value: CheckpointDiffLine): Uint8Array {
  return Buffer.from(encodeNdjsonLine(value));
}
