import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openTestbed, type Testbed } from "./testing/testbed.ts";

let bed: Testbed;
beforeEach(async () => {
  bed = await openTestbed();
});
afterEach(() => bed[Symbol.asyncDispose]());

const admin = () => ({ token: bed.adminToken });
const issue = async (body?: object) =>
  (await (await bed.call("POST", "/v1/organizations/acme/tokens", { ...admin(), ...(body ? { body } : {}) })).json()) as {
    id: string;
    token: string;
  };

describe("tokens", () => {
  it("[API-6] are taken with the schemes Bearer and FlyV1, in any case", async () => {
    for (const scheme of ["Bearer", "bearer", "FlyV1"]) {
      const response = await bed.call("GET", "/v1/sprites", { token: null, headers: { authorization: `${scheme} ${bed.token}` } });
      expect(response.status, scheme).toBe(200);
    }
  });

  it.each([undefined, "", "Bearer", "Bearer ", "Basic abc", "Bearer a b", `Bearer ${"x".repeat(5000)}`])(
    "refuse %j with 401",
    async (authorization) => {
      const response = await bed.call("GET", "/v1/sprites", { token: null, headers: authorization === undefined ? {} : { authorization } });
      expect([response.status, await response.json()]).toEqual([401, { error: "unauthorized", message: expect.any(String) }]);
      expect(response.headers.get("www-authenticate")).toBe("Bearer");
    },
  );

  it("[API-6] see their own organization only", async () => {
    await bed.call("POST", "/v1/sprites", { body: { name: "mine" } });
    const other = bed.organizations.create("other", "Other");
    const { text } = bed.organizations.createToken(other, { description: "", namePrefix: undefined, admin: false });
    for (const [method, path] of [
      ["GET", ""],
      ["DELETE", ""],
      ["POST", "/wake"],
      ["POST", "/exec?cmd=echo"],
      ["GET", "/exec"],
    ]) {
      const response = await bed.call(method as string, `/v1/sprites/mine${path}`, { token: text });
      expect([response.status, ((await response.json()) as { error: string }).error]).toEqual([404, "sprite_not_found"]);
    }
    expect(((await (await bed.call("GET", "/v1/sprites", { token: text })).json()) as { sprites: unknown[] }).sprites).toEqual([]);
    expect((await bed.call("GET", "/v1/sprites/mine")).status).toBe(200);
  });

  it("[API-7] with a prefix reach only names that begin with it", async () => {
    await bed.call("POST", "/v1/sprites", { body: { name: "web" } });
    const { token } = await issue({ name_prefix: "mcp-" });
    expect((await bed.call("POST", "/v1/sprites", { token, body: { name: "mcp-a" } })).status).toBe(201);
    for (const response of [
      await bed.call("POST", "/v1/sprites", { token, body: { name: "b" } }),
      await bed.call("GET", "/v1/sprites/web", { token }),
      await bed.call("POST", "/v1/sprites/web/exec?cmd=echo", { token }),
    ]) {
      expect([response.status, await response.json()]).toEqual([
        403,
        { error: "token_name_prefix", message: expect.stringContaining('"mcp-"') },
      ]);
    }
    const names = async (query: string) =>
      ((await (await bed.call("GET", `/v1/sprites${query}`, { token })).json()) as { sprites: { name: string }[] }).sprites.map(
        ({ name }) => name,
      );
    expect(await names("")).toEqual(["mcp-a"]);
    expect(await names("?prefix=m")).toEqual(["mcp-a"]);
    expect(await names("?prefix=mcp-b")).toEqual([]);
    expect(await names("?prefix=w")).toEqual([]);
  });

  it("[API-8] are issued with 201, listed without their secret, and refused after they were revoked", async () => {
    const { id, token } = await issue({ description: "ci", invite_code: "ignored" });
    expect((await bed.call("GET", "/v1/sprites", { token })).status).toBe(200);
    const listed = await (await bed.call("GET", "/v1/organizations/acme/tokens", admin())).text();
    expect(JSON.parse(listed)).toMatchObject({
      tokens: expect.arrayContaining([
        expect.objectContaining({ id, description: "ci", admin: false, revoked_at: null, last_used_at: expect.any(String) }),
      ]),
    });
    expect(listed).not.toContain(token.split("/")[3]);
    expect((await bed.call("DELETE", `/v1/organizations/acme/tokens/${id}`, admin())).status).toBe(204);
    const refused = await bed.call("GET", "/v1/sprites", { token });
    expect([refused.status, await refused.json()]).toEqual([401, { error: "token_revoked", message: expect.any(String) }]);
    expect((await bed.call("DELETE", "/v1/organizations/acme/tokens/none", admin())).status).toBe(404);
  });

  it("a token can be issued without a body, as some clients do", async () => {
    expect((await issue()).token).toContain("acme/");
  });

  it("[API-9] that are not admin tokens manage nothing", async () => {
    for (const [method, path] of [
      ["GET", "/v1/organizations"],
      ["POST", "/v1/organizations"],
      ["GET", "/v1/organizations/acme/tokens"],
      ["POST", "/v1/organizations/acme/tokens"],
      ["DELETE", "/v1/organizations/acme/tokens/x"],
    ]) {
      const response = await bed.call(method as string, path as string);
      expect([response.status, ((await response.json()) as { error: string }).error], `${method} ${path}`).toEqual([403, "forbidden"]);
    }
  });

  it("[API-3] never reach the log", async () => {
    await bed.call("GET", "/v1/sprites");
    await issue();
    const log = JSON.stringify(bed.lines);
    expect(log).toContain('"endpoint":"createToken"');
    for (const token of [bed.token, bed.adminToken]) expect(log).not.toContain(token.split("/")[3]);
  });
});

describe("organizations", () => {
  it("are created, listed and have a slug of their own", async () => {
    const created = await bed.call("POST", "/v1/organizations", { ...admin(), body: { slug: "beta", display_name: "Beta" } });
    expect([created.status, await created.json()]).toEqual([
      201,
      { id: expect.any(String), slug: "beta", name: "Beta", created_at: expect.any(String) },
    ]);
    const error = async (body: object) =>
      ((await (await bed.call("POST", "/v1/organizations", { ...admin(), body })).json()) as { error: string }).error;
    expect(await error({ slug: "beta" })).toBe("organization_slug_taken");
    expect(await error({ slug: "Bad" })).toBe("organization_slug_invalid");
    expect(
      ((await (await bed.call("GET", "/v1/organizations", admin())).json()) as { organizations: unknown[] }).organizations,
    ).toHaveLength(2);
    const missing = await bed.call("POST", "/v1/organizations/none/tokens", admin());
    expect([missing.status, ((await missing.json()) as { error: string }).error]).toEqual([404, "organization_not_found"]);
  });

  it("of the token is told with its running sprites", async () => {
    await bed.call("POST", "/v1/sprites", { body: { name: "a" } });
    await bed.call("POST", "/v1/sprites", { body: { name: "b" } });
    await bed.call("POST", "/v1/sprites/b/wake");
    expect(await (await bed.call("GET", "/v1/organization")).json()).toMatchObject({
      organization: { slug: "acme", sprites_enabled: true, active_sprites: ["b"] },
    });
  });
});
