import { describe, expect, it } from "vitest";
import { ERRORS } from "../errors.ts";
import type { Endpoint } from "./endpoint.ts";
import { ENDPOINTS } from "./endpoints.ts";
import { openApiDocument } from "./openapi.ts";

interface Operation {
  operationId: string;
  parameters: { name: string; in: string; schema: unknown }[];
  responses: Record<string, { description: string }>;
  requestBody?: { content: Record<string, { schema: { additionalProperties?: boolean } }> };
}

const document = openApiDocument({ version: "1.2.3", serverUrl: "http://localhost:7780" });
const paths = document["paths"] as Record<string, Record<string, Operation>>;

describe("openApiDocument", () => {
  it("[API-24] has every endpoint with its success and all its error codes", () => {
    for (const [name, endpoint] of Object.entries(ENDPOINTS) as [string, Endpoint][]) {
      const operation = paths[endpoint.path]?.[endpoint.method.toLowerCase()];
      expect(operation?.responses[endpoint.status], name).toBeDefined();
      for (const code of endpoint.errors) {
        const status = ERRORS[code].status;
        const others = Object.entries(ENDPOINTS).some(
          ([other, e]) => other !== name && e.path === endpoint.path && e.method === endpoint.method,
        );
        if (others) expect(operation?.responses[status], `${name} ${code}`).toBeDefined();
        else expect(operation?.responses[status]?.description, `${name} ${code}`).toContain(`\`${code}\``);
      }
    }
  });

  it("[API-24] describes parameters by their wire types and closes request bodies", () => {
    const exec = paths["/v1/sprites/{name}/exec"]?.["get"];
    expect(exec?.parameters).toContainEqual(
      expect.objectContaining({ name: "cmd", in: "query", schema: { type: "array", items: { type: "string" } } }),
    );
    expect(exec?.parameters).toContainEqual(expect.objectContaining({ name: "rows", schema: { type: "integer" } }));
    expect(exec?.responses["101"]).toBeDefined();
    expect(exec?.responses["200"]).toBeDefined();
    expect(paths["/v1/sprites"]?.["post"]?.requestBody?.content["application/json"]?.schema.additionalProperties).toBe(false);
  });

  it("[API-24] is plain JSON", () => {
    expect(JSON.parse(JSON.stringify(document))).toEqual(document);
  });
});
