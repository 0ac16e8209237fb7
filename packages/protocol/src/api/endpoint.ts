/**
 * What an endpoint is, as data. The table of all endpoints (`endpoints.ts`) is what the server's
 * router, the typed client and the OpenAPI document are derived from.
 */
import type { z } from "zod";
import type { ErrorCode } from "../errors.ts";

export type Method = "GET" | "POST" | "PUT" | "DELETE";

/** Who may call: anyone, any valid token, an admin token. */
export type Access = "anyone" | "token" | "admin";

export interface Endpoint {
  method: Method;
  /** Path with `{name}` segments. */
  path: string;
  /** `json`: a JSON answer; `stream`: a body without end, described by `stream`; `websocket`: an upgrade. */
  kind: "json" | "stream" | "websocket";
  access: Access;
  /** Group in the OpenAPI document. */
  tag: string;
  summary: string;
  /** More than the summary says; Markdown. */
  description?: string;
  /** Query parameters; strings as they arrive, see `queryFromUrl`. */
  query?: z.ZodObject;
  /** JSON body. */
  body?: z.ZodType;
  /** Body of raw bytes with this content type, handed to the handler as a stream. */
  rawBody?: string;
  /** Status of success. */
  status: 101 | 200 | 201 | 204;
  /** JSON answer; undefined where there is none. */
  response?: z.ZodType;
  /** Content type and line of a streamed answer, also of one that is streamed only on request. */
  stream?: { contentType: string; line?: z.ZodType };
  /** Codes this endpoint can answer beside those that any can (`COMMON_ERRORS`). */
  errors: readonly ErrorCode[];
}

/** Codes that any endpoint can answer. */
export const COMMON_ERRORS: readonly ErrorCode[] = [
  "unauthorized",
  "token_revoked",
  "forbidden",
  "query_invalid",
  "shutting_down",
  "internal",
];

/** Names of the `{…}` segments of a path. */
export type PathParams<P extends string> = P extends `${string}{${infer Name}}${infer Rest}`
  ? { [K in Name | keyof PathParams<Rest>]: string }
  : {};

/** Keeps the literal types of an endpoint while checking its form. */
export function endpoint<const E extends Endpoint>(definition: E): E {
  return definition;
}
