/** Tokens that are missing, wrong, revoked, restricted, or of another organization. */
import { describe, expect, test } from "vitest";
import { ExecSocket, RefusedError } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { sdkOf, type Target, uniqueName, withSprite } from "../kit/target.ts";
import { issueToken, newTenant, revokeToken } from "../kit/tenants.ts";
import { refusal } from "./bad-requests.ts";

export function badTokens(target: () => Target): void {
  const handshake = async (name: string, token: string): Promise<[number, unknown]> => {
    const outcome = await ExecSocket.open(target(), name, { cmd: ["true"], stdin: "false" }, { token }).catch((error: unknown) => error);
    expect(outcome).toBeInstanceOf(RefusedError);
    const refused = outcome as RefusedError;
    return [refused.status, refused.code];
  };

  test("no token, another scheme, an empty one, a random one, one letter off: 401 each", async () => {
    const good = target().token;
    const nearly = `${good.slice(0, -1)}${good.endsWith("a") ? "b" : "a"}`;
    expect(refusal(await ask(target(), "/v1/sprites", { token: null }))).toEqual([401, "unauthorized"]);
    for (const authorization of [
      `Basic ${good}`,
      "Bearer",
      "Bearer ",
      good,
      "Bearer x/y/z",
      `Bearer ${nearly}`,
      `Bearer ${"x".repeat(8_000)}`,
      `Bearer ${good} ${good}`,
    ]) {
      const answer = await ask(target(), "/v1/sprites", { token: null, headers: { authorization } });
      expect(refusal(answer), authorization.slice(0, 40)).toEqual([401, "unauthorized"]);
      expect(answer.text).not.toContain(good);
    }
  });

  test("a revoked token stops working at once, on requests and handshakes", async () => {
    await withSprite(target(), "revoked", async (sprite) => {
      const token = await issueToken(target());
      expect((await ask(target(), "/v1/sprites", { token: token.token })).status).toBe(200);
      await revokeToken(target(), token);
      expect(refusal(await ask(target(), "/v1/sprites", { token: token.token }))).toEqual([401, "token_revoked"]);
      expect(await handshake(sprite.name, token.token)).toEqual([401, "token_revoked"]);
    });
  });

  test("a token is shown once and never again", async () => {
    const token = await issueToken(target());
    const list = await ask(target(), `/v1/organizations/${target().organization}/tokens`);
    expect(list.text).toContain(token.id);
    expect(list.text).not.toContain(token.token);
    await revokeToken(target(), token);
  });

  test("a token without admin rights manages nothing", async () => {
    const token = await issueToken(target());
    for (const [method, path, json] of [
      ["POST", "/v1/organizations", { slug: "sneaky" }],
      ["GET", "/v1/organizations", undefined],
      ["POST", `/v1/organizations/${target().organization}/tokens`, { admin: true }],
      ["GET", `/v1/organizations/${target().organization}/tokens`, undefined],
    ] as const) {
      expect(refusal(await ask(target(), path, { method, json, token: token.token })), path).toEqual([403, "forbidden"]);
    }
    await revokeToken(target(), token);
  });

  test("a token with a name prefix sees and touches only such names, and the refusal names the prefix", async () => {
    const prefix = `${uniqueName("team")}-`;
    const token = await issueToken(target(), { name_prefix: prefix });
    const restricted = { ...target(), token: token.token };
    await withSprite(target(), "outside", async (outside) => {
      for (const [method, path, json] of [
        ["GET", `/v1/sprites/${outside.name}`, undefined],
        ["PUT", `/v1/sprites/${outside.name}`, { labels: ["x"] }],
        ["DELETE", `/v1/sprites/${outside.name}`, undefined],
        ["POST", `/v1/sprites/${outside.name}/restart`, undefined],
        ["POST", `/v1/sprites/${outside.name}/exec?cmd=true`, undefined],
        ["POST", "/v1/sprites", { name: uniqueName("other") }],
      ] as const) {
        const answer = await ask(restricted, path, { method, json });
        expect(refusal(answer), `${method} ${path}`).toEqual([403, "token_name_prefix"]);
        expect(answer.json()["message"]).toContain(prefix);
      }
      expect(await handshake(outside.name, token.token)).toEqual([403, "token_name_prefix"]);
      const inside = await sdkOf(restricted).createSprite(`${prefix}a`);
      try {
        expect((await sdkOf(restricted).listAllSprites()).map(({ name }) => name)).toEqual([inside.name]);
        expect((await inside.exec("echo mine")).stdout).toBe("mine\n");
      } finally {
        await inside.delete();
      }
    });
    await revokeToken(target(), token);
  });

  describe("another organization", () => {
    test("its sprites do not exist: not in lists, not by name, not for commands", async () => {
      const other = await newTenant(target());
      await withSprite(target(), "private", async (sprite) => {
        expect((await sdkOf(other).listAllSprites()).map(({ name }) => name)).toEqual([]);
        for (const [method, path, json] of [
          ["GET", "", undefined],
          ["PUT", "", { labels: ["x"] }],
          ["DELETE", "", undefined],
          ["POST", "/restart", undefined],
          ["GET", "/check", undefined],
          ["GET", "/exec", undefined],
          ["POST", "/exec?cmd=true", undefined],
        ] as const) {
          const answer = await ask(other, `/v1/sprites/${sprite.name}${path}`, { method, json });
          expect(refusal(answer), `${method} ${path}`).toEqual([404, "sprite_not_found"]);
        }
        expect(await handshake(sprite.name, other.token)).toEqual([404, "sprite_not_found"]);
        expect((await sdkOf(target()).getSprite(sprite.name)).labels).toEqual([]);
      });
    });

    test("names are free of each other", async () => {
      const other = await newTenant(target());
      await withSprite(target(), "same", async (mine) => {
        const theirs = await sdkOf(other).createSprite(mine.name);
        try {
          expect(theirs.id).not.toBe(mine.id);
          expect(theirs.organizationName).toBe(other.organization);
        } finally {
          await theirs.delete();
        }
        expect((await sdkOf(target()).getSprite(mine.name)).id).toBe(mine.id);
      });
    });
  });
}
