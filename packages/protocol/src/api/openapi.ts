/** The OpenAPI document, generated from the table of endpoints and its schemas. Pure. */
import { z } from "zod";
import { ERRORS, type ErrorCode } from "../errors.ts";
import { COMMON_ERRORS, type Endpoint } from "./endpoint.ts";
import { ENDPOINTS } from "./endpoints.ts";

type Json = Record<string, unknown>;

/** The document for a server of this version at this base URL. */
export function openApiDocument(options: { version: string; serverUrl: string }): Json {
  const paths: Record<string, Json> = {};
  for (const [name, definition] of Object.entries(ENDPOINTS) as [string, Endpoint][]) {
    const path = (paths[definition.path] ??= {});
    const method = definition.method.toLowerCase();
    const described = operation(name, definition);
    path[method] = path[method] === undefined ? described : merge(path[method] as Json, described);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Sprited",
      version: options.version,
      description:
        "The Sprites v1 API, served from virtual machines on your own host. Errors are `{error, message, …}` with a code of `docs/errors.md`.",
    },
    servers: [{ url: options.serverUrl }],
    paths,
    components: {
      securitySchemes: { token: { type: "http", scheme: "bearer" } },
      schemas: { Error: errorSchema() },
    },
  };
}

function operation(name: string, definition: Endpoint): Json {
  const body = definition.rawBody
    ? { required: false, content: { [definition.rawBody]: { schema: { type: "string", format: "binary" } } } }
    : definition.body && {
        required: !definition.body.isOptional(),
        content: { "application/json": { schema: schemaOf(definition.body, "input") } },
      };
  return {
    operationId: name,
    tags: [definition.tag],
    summary: definition.summary,
    ...(definition.description === undefined ? {} : { description: definition.description }),
    security: definition.access === "anyone" ? [] : [{ token: [] }],
    parameters: [...pathParameters(definition.path), ...queryParameters(definition.query)],
    ...(body ? { requestBody: body } : {}),
    responses: { [definition.status]: success(definition), ...failures(definition) },
  };
}

function success(definition: Endpoint): Json {
  const content: Record<string, Json> = {};
  if (definition.response) content["application/json"] = { schema: schemaOf(definition.response, "output") };
  if (definition.stream) {
    const { contentType, line } = definition.stream;
    content[contentType] = { schema: line ? schemaOf(line, "output") : { type: "string", format: "binary" } };
  }
  const description = definition.status === 101 ? "The WebSocket is open" : definition.summary;
  return Object.keys(content).length === 0 ? { description } : { description, content };
}

function failures(definition: Endpoint): Record<string, Json> {
  const codes = new Set<ErrorCode>([...definition.errors, ...(definition.access === "anyone" ? (["internal"] as const) : COMMON_ERRORS)]);
  const byStatus: Record<string, ErrorCode[]> = {};
  for (const code of codes) (byStatus[String(ERRORS[code].status)] ??= []).push(code);
  return Object.fromEntries(
    Object.entries(byStatus).map(([status, list]) => [
      status,
      {
        description: list.map((code) => `\`${code}\``).join(", "),
        content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
      },
    ]),
  );
}

function pathParameters(path: string): Json[] {
  return [...path.matchAll(/\{([a-z_]+)\}/g)].map(([, name]) => ({ name, in: "path", required: true, schema: { type: "string" } }));
}

function queryParameters(query: z.ZodObject | undefined): Json[] {
  if (!query) return [];
  return Object.entries(query.shape).map(([name, field]) => {
    const { description, ...schema } = schemaOf(field as z.ZodType, "input");
    return { name, in: "query", required: false, ...(description === undefined ? {} : { description }), schema };
  });
}

/** One operation for the two endpoints that share method and path: plain and WebSocket. */
function merge(one: Json, other: Json): Json {
  const parameters = [...(one["parameters"] as Json[]), ...(other["parameters"] as Json[])];
  const unique = parameters.filter((parameter, index) => parameters.findIndex(({ name }) => name === parameter["name"]) === index);
  return {
    ...one,
    summary: `${String(one["summary"])} · ${String(other["summary"])}`,
    parameters: unique,
    responses: { ...(other["responses"] as Json), ...(one["responses"] as Json) },
  };
}

function schemaOf(schema: z.ZodType, io: "input" | "output"): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: "any" }) as Json;
  return rest;
}

function errorSchema(): Json {
  return {
    type: "object",
    required: ["error", "message"],
    properties: {
      error: { type: "string", enum: Object.keys(ERRORS) },
      message: { type: "string" },
      limit: { type: "integer" },
      window_seconds: { type: "integer" },
      retry_after_seconds: { type: "integer" },
      current_count: { type: "integer" },
      upgrade_available: { type: "boolean" },
      upgrade_url: { type: "string" },
      field: { type: "string" },
      request_id: { type: "string" },
    },
  };
}
