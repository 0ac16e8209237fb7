/**
 * From schema violations to errors of the registry. The first violation is reported, with the
 * place it is at; values are never quoted, they may be secrets.
 *
 * A schema can name the code of its own rule: `context.addIssue({ code: "custom", message,
 * params: { error: "name_invalid" } })`.
 */
import type { z } from "zod";
import { ApiError, type ErrorCode, isErrorCode } from "../errors.ts";

interface Issue {
  code?: string | undefined;
  path: readonly PropertyKey[];
  message: string;
  keys?: readonly string[];
  params?: Record<string, unknown>;
}

/** A request body as its schema gives it. Throws `ApiError`: `field_unknown`, `body_invalid`, or the code of the broken rule. */
export function validateBody<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  throw violation(result.error.issues as readonly Issue[], body, "body_invalid", "the body");
}

/** Query parameters as their schema gives them. Throws `ApiError`: `query_invalid` or the code of the broken rule. */
export function validateQuery<T extends z.ZodType>(schema: T, query: Record<string, string | string[]>): z.output<T> {
  const result = schema.safeParse(query);
  if (result.success) return result.data;
  throw violation(result.error.issues as readonly Issue[], query, "query_invalid", "the query");
}

function violation(issues: readonly Issue[], input: unknown, fallback: ErrorCode, whole: string): ApiError {
  const issue = issues[0];
  if (!issue) return new ApiError(fallback, `${whole} is not valid`);
  const field = issue.path.map(String).join(".");
  const details = field === "" ? {} : { field };
  const code = issue.params?.["error"];
  if (isErrorCode(code)) return new ApiError(code, issue.message, { details });
  if (issue.code === "unrecognized_keys") {
    const unknown = [field, issue.keys?.[0] ?? ""].filter((part) => part !== "").join(".");
    return new ApiError("field_unknown", `${whole} has a field that this call does not know: ${JSON.stringify(unknown.slice(0, 100))}`, {
      details: { field: unknown.slice(0, 100) },
    });
  }
  if (field === "") return new ApiError(fallback, `${whole} must be a JSON object`);
  if (valueAt(input, issue.path) === undefined) {
    if (field === "name") return new ApiError("name_required", "name is required", { details });
    return new ApiError(fallback, `${field} is required`, { details });
  }
  return new ApiError(fallback, `${field}: ${plain(issue.message)}`, { details });
}

/** Zod's sentence without its "Invalid input:" in front. */
function plain(message: string): string {
  return message.replace(/^Invalid (input|option): /, "");
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}
