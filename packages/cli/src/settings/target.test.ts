import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { emptyAccounts, withAccount } from "./accounts.ts";
import { DEFAULT_API_URL } from "./api-url.ts";
import type { Environment } from "./environment.ts";
import { chooseServer, chooseSprite, type TargetInput } from "./target.ts";

const REMOTE = "https://sprites.example.com";
const OTHER = "https://other.example.com:8443";

const environment = (values: Partial<Environment> = {}): Environment => ({
  token: undefined,
  org: undefined,
  apiUrl: undefined,
  settingsDir: "/nowhere",
  hostTokenFiles: [],
  ...values,
});

function input(values: Partial<TargetInput> = {}): TargetInput {
  return {
    flags: {},
    environment: environment(),
    accounts: emptyAccounts(),
    spriteFile: undefined,
    findHostToken: () => undefined,
    ...values,
  };
}

/** alpha and beta at REMOTE, alpha at OTHER; beta at REMOTE is selected. */
function accounts() {
  let all = withAccount(emptyAccounts(), { apiUrl: OTHER, org: "alpha", token: "other-alpha" });
  all = withAccount(all, { apiUrl: REMOTE, org: "alpha", token: "remote-alpha" });
  return withAccount(all, { apiUrl: REMOTE, org: "beta", token: "remote-beta" });
}

const hostToken = { path: "/var/lib/sprited/token", token: "host-token" };

describe("chooseServer", () => {
  test("[CLI-1] the organization: -o, SPRITE_ORG, .sprite, the selected one", () => {
    const base = { accounts: accounts(), spriteFile: { organization: "alpha", sprite: "x" } };
    expect(chooseServer(input({ accounts: accounts() })).token).toBe("remote-beta");
    expect(chooseServer(input(base)).token).toBe("remote-alpha");
    expect(chooseServer(input({ ...base, environment: environment({ org: "beta" }) })).token).toBe("remote-beta");
    expect(chooseServer(input({ ...base, environment: environment({ org: "beta" }), flags: { org: "alpha" } })).token).toBe("remote-alpha");
  });

  test("[CLI-2] the API: part of -o, environment, the account's, the default", () => {
    expect(chooseServer(input({ accounts: accounts(), flags: { org: "other.example.com:alpha" } }))).toMatchObject({
      apiUrl: OTHER,
      token: "other-alpha",
    });
    expect(chooseServer(input({ accounts: accounts(), environment: environment({ apiUrl: `${OTHER}/` }) }))).toMatchObject({
      apiUrl: OTHER,
      token: "other-alpha",
    });
    expect(chooseServer(input({ findHostToken: () => hostToken })).apiUrl).toBe(DEFAULT_API_URL);
    expect(chooseServer(input({ environment: environment({ token: "t" }), accounts: accounts() })).apiUrl).toBe(DEFAULT_API_URL);
  });

  test("[CLI-3] SPRITE_TOKEN comes before everything stored", () => {
    expect(
      chooseServer(
        input({ accounts: accounts(), environment: environment({ token: " env \n", apiUrl: REMOTE }), findHostToken: () => hostToken }),
      ),
    ).toMatchObject({
      token: "env",
      tokenFrom: { kind: "environment" },
    });
  });

  test("[CLI-3] the token of this machine's server is used on loopback, after a stored one", () => {
    expect(chooseServer(input({ findHostToken: () => hostToken }))).toMatchObject({
      token: "host-token",
      tokenFrom: { kind: "host", path: hostToken.path },
    });
    const stored = withAccount(emptyAccounts(), { apiUrl: DEFAULT_API_URL, org: "default", token: "stored" });
    expect(chooseServer(input({ accounts: stored, findHostToken: () => hostToken })).token).toBe("stored");
  });

  test("[CLI-3] no stored or host token ever goes to another URL", () => {
    const url = fc.constantFrom(
      "https://evil.example",
      "http://10.0.0.1:7780",
      "http://localhost.evil.example",
      "http://127.0.0.1.evil.example:7780",
      REMOTE,
      OTHER,
      DEFAULT_API_URL,
      "http://[::1]:99",
    );
    const org = fc.constantFrom(undefined, "alpha", "beta", "gamma");
    fc.assert(
      fc.property(url, org, org, (apiUrl, flagOrg, fileOrg) => {
        const flags = flagOrg === undefined ? {} : { org: flagOrg };
        try {
          const server = chooseServer(
            input({
              accounts: accounts(),
              environment: environment({ apiUrl }),
              flags,
              spriteFile: { organization: fileOrg, sprite: "s" },
              findHostToken: () => hostToken,
            }),
          );
          expect(server.apiUrl).toBe(apiUrl);
          if (server.token === "host-token") expect([DEFAULT_API_URL, "http://[::1]:99"]).toContain(apiUrl);
          else expect(server.token.startsWith("remote-") ? REMOTE : OTHER).toBe(apiUrl);
        } catch (error) {
          expect((error as Error).message).toMatch(/^There is no token for /);
        }
      }),
    );
  });

  test("[CLI-4] a named organization is unproven unless the token was stored for it", () => {
    expect(chooseServer(input({ findHostToken: () => hostToken, flags: { org: "team" } })).orgUnproven).toBe(true);
    expect(chooseServer(input({ environment: environment({ token: "t" }), flags: { org: "team" } })).orgUnproven).toBe(true);
    expect(chooseServer(input({ findHostToken: () => hostToken, spriteFile: { organization: "team", sprite: "x" } })).orgUnproven).toBe(
      false,
    );
    expect(chooseServer(input({ accounts: accounts(), flags: { org: "alpha" } })).orgUnproven).toBe(false);
  });

  test("[CLI-3] a token that could add a header line is refused", () => {
    expect(() => chooseServer(input({ environment: environment({ token: "a\r\nX: y" }) }))).toThrow(/characters that no token has/);
  });
});

describe("chooseSprite", () => {
  const spriteFile = { organization: "default", sprite: "filed" };
  test("[CLI-5] argument, -s, .sprite; two different names are an error", () => {
    expect(chooseSprite({ argument: "a", flags: {}, spriteFile })).toEqual({ name: "a", from: "argument" });
    expect(chooseSprite({ flags: { sprite: "b" }, spriteFile })).toEqual({ name: "b", from: "flag" });
    expect(chooseSprite({ flags: {}, spriteFile })).toEqual({ name: "filed", from: "file" });
    expect(() => chooseSprite({ argument: "a", flags: { sprite: "b" }, spriteFile })).toThrow("Two sprites were named: a and b.");
    expect(() => chooseSprite({ flags: {}, spriteFile: undefined })).toThrow("No sprite was named.");
  });
});
