/** The continuation token of a list of jobs. Pure. */
import { ApiError } from "@sprited/protocol/errors";

export interface PageMark {
  createdAtMs: number;
  id: string;
}

export function pageMark({ createdAtMs, id }: PageMark): string {
  return Buffer.from(`${createdAtMs}.${id}`).toString("base64url");
}

/** Throws `query_invalid`. */
export function readPageMark(token: string | undefined): PageMark | undefined {
  if (token === undefined) return undefined;
  const match = /^([0-9]{1,15})\.([0-9]{1,20})$/.exec(Buffer.from(token, "base64url").toString("latin1"));
  if (!match)
    throw new ApiError("query_invalid", "continuation_token is not one of this list", { details: { field: "continuation_token" } });
  return { createdAtMs: Number(match[1]), id: match[2] ?? "" };
}
