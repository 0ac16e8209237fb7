import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Endpoint } from "./endpoint.ts";
import { ENDPOINTS } from "./endpoints.ts";
import { fillPath, matchRoute } from "./route.ts";

const plain = { upgrade: false };
const upgrade = { upgrade: true };

describe("matchRoute", () => {
  it("finds every endpoint of the table by its own path, with names of any text", () => {
    for (const [name, endpoint] of Object.entries(ENDPOINTS) as [string, Endpoint][]) {
      fc.assert(
        fc.property(fc.string({ minLength: 1, unit: "grapheme" }), (text) => {
          const params = Object.fromEntries([...endpoint.path.matchAll(/\{([a-z_]+)\}/g)].map(([, key]) => [key ?? "", text]));
          const route = matchRoute(endpoint.method, fillPath(endpoint.path, params), { upgrade: endpoint.kind === "websocket" });
          expect(route).toMatchObject({ kind: "endpoint", name, params });
        }),
        { numRuns: 20 },
      );
    }
  });

  it("decodes segments after splitting", () => {
    expect(matchRoute("GET", "/v1/sprites/my%20sprite%2F1", plain)).toMatchObject({ name: "getSprite", params: { name: "my sprite/1" } });
  });

  it("takes HEAD for GET", () => {
    expect(matchRoute("HEAD", "/v1/sprites/a/exec", plain)).toMatchObject({ name: "listSessions" });
  });

  it("tells a wrong method, a missing upgrade and an unknown path apart", () => {
    expect(matchRoute("PATCH", "/v1/sprites", plain)).toEqual({ kind: "method_not_allowed", allow: ["GET", "HEAD", "POST"] });
    expect(matchRoute("GET", "/v1/sprites/a/exec/1/kill", plain)).toEqual({ kind: "method_not_allowed", allow: ["POST"] });
    expect(matchRoute("GET", "/v1/spritez", plain)).toEqual({ kind: "not_found" });
    expect(matchRoute("GET", "/v1/sprites/%zz", plain)).toEqual({ kind: "not_found" });
    expect(matchRoute("GET", "/v1/sprites//exec", plain)).toEqual({ kind: "not_found" });
    expect(matchRoute("GET", "/v1/sprites/a", upgrade).kind).not.toBe("endpoint");
  });

  it("[API-4] knows what is not served yet, and the control path", () => {
    expect(matchRoute("GET", "/v1/sprites/a/control", upgrade)).toEqual({ kind: "control", sprite: "a" });
    expect(matchRoute("GET", "/v1/sprites/a/control", plain)).toEqual({ kind: "control", sprite: "a" });
    for (const path of ["services/web/start", "policy/network"]) {
      expect(matchRoute("POST", `/v1/sprites/a/${path}`, plain), path).toMatchObject({ kind: "not_available_yet" });
    }
  });
});
