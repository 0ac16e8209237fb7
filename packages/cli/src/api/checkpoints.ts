/** The calls on checkpoints. Answers are read leniently: only ids are needed. */
import { ConnectionError } from "@sprited/protocol/client/errors";
import { ApiError, isErrorCode } from "@sprited/protocol/errors";
import { isObject } from "../settings/files.ts";
import type { Target } from "../settings/load.ts";
import { callApi, streamApi } from "./http.ts";

const SLOW_CALL_TIMEOUT_MS = 180_000;

export interface CheckpointInfo {
  id: string;
  createdAt: string | undefined;
  comment: string;
  /** The checkpoint it came from. */
  source: string | undefined;
  isAuto: boolean;
  /** Empty while healthy. */
  health: string;
  state: string | undefined;
  memory: boolean;
  diskBytes: number;
  memoryBytes: number;
  /** The answer as it came. */
  raw: Record<string, unknown>;
}

/** What the last line of a progress stream says. */
export interface Finished {
  text: string;
  id: string | undefined;
  previous: string | undefined;
  memory: boolean;
  raw: Record<string, unknown>;
}

export function checkpointsPath(target: Target, rest = ""): string {
  return `/v1/sprites/${encodeURIComponent(target.sprite)}/checkpoints${rest}`;
}

/** Newest first; the entry `Current`, where the server has one, is among them. */
export async function listCheckpoints(
  target: Target,
  query: { history?: string | undefined; includeAuto: boolean },
): Promise<CheckpointInfo[]> {
  const parameters = new URLSearchParams();
  if (query.history !== undefined) parameters.set("history", query.history);
  if (query.includeAuto) parameters.set("includeAuto", "true");
  const rest = parameters.size === 0 ? "" : `?${parameters.toString()}`;
  const answer = await callApi(target.server, { method: "GET", path: checkpointsPath(target, rest) });
  if (!Array.isArray(answer)) throw new ConnectionError("bad_answer", "the list of checkpoints is not of this API");
  return answer.map(readCheckpoint);
}

export async function getCheckpoint(target: Target, id: string): Promise<CheckpointInfo> {
  return readCheckpoint(await callApi(target.server, { method: "GET", path: checkpointsPath(target, `/${encodeURIComponent(id)}`) }));
}

export async function deleteCheckpoint(target: Target, id: string): Promise<void> {
  const path = checkpointsPath(target, `/${encodeURIComponent(id)}`);
  await callApi(target.server, { method: "DELETE", path, timeoutMs: SLOW_CALL_TIMEOUT_MS });
}

/** Follows a call that answers with progress lines; returns what the last one says. Throws what an `error` line says. */
export async function followProgress(
  target: Target,
  call: { path: string; body?: unknown },
  onInfo: (text: string) => void,
): Promise<Finished> {
  for await (const line of streamApi(target.server, { method: "POST", ...call })) {
    if (!isObject(line)) continue;
    const data = text(line["data"]) ?? "";
    if (line["type"] === "info") onInfo(data);
    if (line["type"] === "error") {
      const code = text(line["code"]);
      throw new ApiError(isErrorCode(code) ? code : "internal", text(line["error"]) ?? data);
    }
    if (line["type"] === "complete")
      return { text: data, id: text(line["id"]), previous: text(line["previous"]), memory: line["memory"] === true, raw: line };
  }
  throw new ConnectionError("closed", "the connection ended before the work did; it goes on on the server");
}

/** Reads a checkpoint object. Throws when it has no id. */
export function readCheckpoint(value: unknown): CheckpointInfo {
  const raw = isObject(value) ? value : {};
  const id = text(raw["id"]);
  if (id === undefined) throw new ConnectionError("bad_answer", "the answer is not a checkpoint");
  return {
    id,
    createdAt: text(raw["create_time"]),
    comment: text(raw["comment"]) ?? "",
    source: text(raw["source_id"]),
    isAuto: raw["is_auto"] === true,
    health: text(raw["health"]) ?? "",
    state: text(raw["state"]),
    memory: raw["memory"] === true,
    diskBytes: number(raw["disk_bytes"]),
    memoryBytes: number(raw["memory_bytes"]),
    raw,
  };
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}
