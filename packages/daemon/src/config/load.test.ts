import fc from "fast-check";
import { parse as parseToml } from "smol-toml";
import { describe, expect, it } from "vitest";
import { configurationDocument, printSettings } from "./describe.ts";
import { ConfigError } from "./errors.ts";
import type { HostFacts } from "./host-defaults.ts";
import { HOME_BYTES_MAX, loadConfig } from "./load.ts";
import { configFields, parseListen } from "./schema.ts";

const host: HostFacts = {
  cpus: 8,
  memoryMb: 16_384,
  uid: 1000,
  homeDirectory: "/home/ada",
  xdgStateHome: undefined,
  filesystemGb: () => 500,
};

function load(environment: Record<string, string> = {}, file?: string, facts: Partial<HostFacts> = {}) {
  return loadConfig({ environment, host: { ...host, ...facts }, readFile: () => file });
}

function problemsOf(work: () => unknown): readonly string[] {
  try {
    work();
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

describe("defaults", () => {
  it("puts the state of a user into the XDG state directory and that of root into /var/lib", () => {
    expect(load().config.home).toBe("/home/ada/.local/state/sprited");
    expect(load({}, undefined, { xdgStateHome: "/xdg" }).config.home).toBe("/xdg/sprited");
    expect(load({}, undefined, { uid: 0 }).config.home).toBe("/var/lib/sprited");
  });

  it("never gives a sprite more than the host has", () => {
    const { config } = load({}, undefined, { cpus: 1, memoryMb: 1024, filesystemGb: () => 40 });
    expect(config.sprite).toMatchObject({ cpus: 1, memoryMb: 512, storageGb: 100 });
    expect(config.limits).toEqual({
      cpus: 1,
      memoryMb: 1024,
      storageGb: 100,
      runningMemoryMb: 3072,
      startsParallel: 4,
      memoryReserveMb: 256,
    });
  });

  it("gives every field a value and a sentence", () => {
    const { settings } = load();
    expect(settings).toHaveLength(configFields().length);
    for (const { field, value } of settings) {
      expect(value, field.key).toBeDefined();
      expect(field.meta.doc, field.key).toMatch(/^[A-Z].*\.$/s);
      expect(field.fixedDefault !== undefined || field.meta.automatic !== undefined, field.key).toBe(true);
    }
  });
});

describe("layers", () => {
  it("lets the environment win over the file and the file over the default, and says which one did", () => {
    const { config, settings } = load({ SPRITED_SPRITE_CPUS: "3" }, "[sprite]\ncpus = 4\nmemory_mb = 1024\n");
    expect(config.sprite).toMatchObject({ cpus: 3, memoryMb: 1024, image: "default" });
    const sources = Object.fromEntries(settings.map(({ field, source }) => [field.key, source]));
    expect(sources).toMatchObject({
      "sprite.cpus": "environment",
      "sprite.memory_mb": "file",
      "sprite.image": "default",
      "limits.cpus": "automatic",
    });
  });

  it("reads lists and empty lists from the environment", () => {
    expect(load({ SPRITED_NETWORK_DNS: "9.9.9.9, ::1" }).config.network.dns).toEqual(["9.9.9.9", "::1"]);
    expect(load({ SPRITED_NETWORK_DNS: "" }, '[network]\ndns = ["1.1.1.1"]').config.network.dns).toEqual([]);
  });

  it("makes the user behind sudo the owner only when root runs", () => {
    const sudo = { SUDO_UID: "1000", SUDO_GID: "1001" };
    expect(load(sudo, undefined, { uid: 0 }).config.owner).toEqual({ uid: 1000, gid: 1001 });
    expect(load(sudo).config.owner).toBeUndefined();
    expect(load({}, undefined, { uid: 0 }).config.owner).toBeUndefined();
  });
});

describe("problems", () => {
  it("names every wrong setting and its origin at once", () => {
    const problems = problemsOf(() =>
      load(
        { SPRITED_HOME: "/s", SPRITED_SPRITE_CPUS: "many", SPRITED_VMM_ACCELERATOR: "xen" },
        'colour = 1\n[sprite]\ncpu = 3\nmemory_mb = "big"\n[network]\ndns = ["nine"]\n',
      ),
    );
    expect(problems).toHaveLength(6);
    for (const start of [
      "SPRITED_SPRITE_CPUS: must be a whole number",
      "SPRITED_VMM_ACCELERATOR:",
      "colour in /s/sprited.toml: no such setting",
      "sprite.cpu in /s/sprited.toml: no such setting; did you mean sprite.cpus?",
      "sprite.memory_mb in /s/sprited.toml:",
      "network.dns in /s/sprited.toml: must be an IP address",
    ]) {
      expect(
        problems.some((problem) => problem.startsWith(start)),
        start,
      ).toBe(true);
    }
  });

  it("refuses a value where a table belongs, and text that is not TOML, with its place", () => {
    expect(problemsOf(() => load({ SPRITED_HOME: "/s" }, "sprite = 3"))).toContain("sprite in /s/sprited.toml: must be a table");
    expect(problemsOf(() => load({ SPRITED_HOME: "/s" }, "a = 1\nb = = 2"))[0]).toMatch(/^\/s\/sprited\.toml:2:\d+: not valid TOML/);
  });

  it("refuses a home in the file that lies in it", () => {
    expect(problemsOf(() => load({ SPRITED_HOME: "/s" }, 'home = "/other"'))[0]).toContain("set SPRITED_HOME");
  });

  it("says who cannot read the file", () => {
    const readFile = (): never => {
      throw Object.assign(new Error("EACCES"), { code: "EACCES" });
    };
    expect(problemsOf(() => loadConfig({ environment: { SPRITED_HOME: "/s" }, host, readFile }))).toEqual([
      "/s/sprited.toml: cannot be read; check its owner and mode",
    ]);
  });

  it("refuses a home too long for the unix sockets below it", () => {
    expect(problemsOf(() => load({ SPRITED_HOME: `/${"x".repeat(HOME_BYTES_MAX)}` }))[0]).toContain("unix sockets");
    expect(load({ SPRITED_HOME: `/${"x".repeat(HOME_BYTES_MAX - 1)}` }).config.home).toHaveLength(HOME_BYTES_MAX);
  });

  it("warns about unknown variables but not about those of scripts around", () => {
    const { warnings } = load({ SPRITED_LISTN: "x", SPRITED_TEST_HOME: "/t", SPRITED_TOKEN: "t", OTHER: "y" });
    expect(warnings).toEqual(["SPRITED_LISTN in the environment: no such setting; did you mean SPRITED_LISTEN?; it has no effect"]);
  });

  it("never fails with anything but ConfigError, whatever stands in the file", () => {
    const keys = configFields().map((field) => field.key);
    const scalar = fc.oneof(fc.integer(), fc.boolean(), fc.string(), fc.array(fc.string(), { maxLength: 3 }));
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...keys), scalar, { maxKeys: 5 }), (values) => {
        const text = Object.entries(values)
          .map(([key, value]) => `${key} = ${JSON.stringify(value)}`)
          .join("\n");
        try {
          load({}, text);
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe("parseListen", () => {
  it.each([
    ["127.0.0.1:7780", { host: "127.0.0.1", port: 7780 }],
    ["[::1]:0", { host: "::1", port: 0 }],
    ["localhost:80", { host: "localhost", port: 80 }],
  ])("reads %s", (text, expected) => {
    expect(parseListen(text)).toEqual(expected);
  });

  it.each(["7780", ":7780", "::1:80", "host:65536", "[nonsense]:80", "a b:80", "host:"])("refuses %s", (text) => {
    expect(parseListen(text)).toBeUndefined();
  });
});

describe("text for people", () => {
  it("prints settings that can be read back as the file", () => {
    const first = load({ SPRITED_NETWORK_DNS: "9.9.9.9", SPRITED_SPRITE_CPUS: "5" });
    const again = load({}, printSettings(first.settings, first.filePath));
    expect(again.config).toEqual(first.config);
  });

  it("is itself valid TOML and documents each field", () => {
    const { settings, filePath } = load();
    const text = printSettings(settings, filePath);
    expect(() => parseToml(text)).not.toThrow();
    const document = configurationDocument();
    for (const { field } of settings) {
      expect(text).toContain(field.meta.doc);
      expect(document).toContain(`\`${field.variable}\``);
    }
  });
});
