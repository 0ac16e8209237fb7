/**
 * Query parameters between text and values. A schema of a query reads strings (or lists of
 * strings for parameters that repeat) and gives typed values; unknown parameters are ignored.
 */
import { z } from "zod";

/** `true`, `1` or nothing after the name; `false`, `0`. */
export function queryBoolean(): z.ZodType<boolean, string> {
  return z
    .string()
    .refine((text) => ["true", "1", "", "false", "0"].includes(text), "must be true or false")
    .transform((text) => text === "true" || text === "1" || text === "")
    .meta({ type: "boolean" });
}

/** A whole number in decimal digits within limits. */
export function queryInteger(limits: { min: number; max: number }): z.ZodType<number, string> {
  return z
    .string()
    .refine((text) => /^-?[0-9]{1,15}$/.test(text), { message: "must be a whole number", abort: true })
    .transform(Number)
    .pipe(z.int().min(limits.min, `must be at least ${limits.min}`).max(limits.max, `must be at most ${limits.max}`))
    .meta({ type: "integer" });
}

/** A duration as `5s`, `1m30s`, `250ms`, or a bare number of seconds. Gives ms. */
export function queryDuration(): z.ZodType<number, string> {
  return z
    .string()
    .transform((text, context) => {
      const ms = durationMs(text);
      if (ms !== undefined) return ms;
      context.addIssue({ code: "custom", message: "must be a duration such as 5s, 1m30s or 250ms" });
      return z.NEVER;
    })
    .meta({ type: "string", examples: ["10s"] });
}

const UNIT_MS: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
/** Longest duration that makes sense, ms: ten years. */
const DURATION_MS_MAX = 10 * 365 * 24 * 3_600_000;

/** Reads a duration; undefined when it is none, negative or absurd. */
export function durationMs(text: string): number | undefined {
  if (/^[0-9]{1,12}(\.[0-9]{1,9})?$/.test(text)) return bounded(Number(text) * 1000);
  if (!/^(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  let ms = 0;
  for (const [, number, unit] of text.matchAll(/([0-9.]+)(ns|us|µs|ms|s|m|h)/g)) ms += Number(number) * (UNIT_MS[unit ?? ""] ?? 0);
  return bounded(ms);
}

function bounded(ms: number): number | undefined {
  return ms <= DURATION_MS_MAX ? Math.round(ms) : undefined;
}

/** Parameters of a URL as the input of `schema`: lists where the schema has one, else the last value. */
export function queryFromUrl(schema: z.ZodObject, parameters: URLSearchParams): Record<string, string | string[]> {
  const query: Record<string, string | string[]> = {};
  for (const [name, field] of Object.entries(schema.shape)) {
    const values = parameters.getAll(name);
    if (values.length === 0) continue;
    query[name] = isList(field) ? values : (values.at(-1) ?? "");
  }
  return query;
}

function isList(field: unknown): boolean {
  let schema = field as { def?: { type?: string; innerType?: unknown } } | undefined;
  while (schema?.def?.innerType) schema = schema.def.innerType as typeof schema;
  return schema?.def?.type === "array";
}
