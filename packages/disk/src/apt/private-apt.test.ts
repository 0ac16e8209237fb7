import { describe, expect, it } from "vitest";
import { networkEnvironment, npmCommand, parseAptConfig } from "./host-network.ts";
import { aptConfig, debFileName, debianSources, parseSimulation, parseUris, sourcesList } from "./private-apt.ts";

describe("the private apt", () => {
  it("[IMG-13] keeps every place of apt below its own directory and reads none of the host's settings", () => {
    const config = aptConfig("/h/cache/apt", {});
    const places = [...config.matchAll(/^Dir::(\S+) "(.+)";$/gm)];
    expect(places.length).toBeGreaterThan(10);
    for (const [, , place] of places) expect(place === "/dev/null" || place?.startsWith("/h/cache/apt/")).toBe(true);
  });

  it("[IMG-13] takes over the host's proxy and cannot be broken by a quote", () => {
    expect(aptConfig("/h", { "Acquire::http::Proxy": 'http://p:1"; Evil "x' })).toContain('Acquire::http::Proxy "http://p:1; Evil x";');
    expect(parseAptConfig("V0='http://p:3128'\nV2='/usr/bin/auto'\nV9='x'\nnonsense")).toEqual({
      "Acquire::http::Proxy": "http://p:3128",
      "Acquire::http::Proxy-Auto-Detect": "/usr/bin/auto",
    });
  });

  it("[IMG-13] signs every source by Debian's keys", () => {
    const list = sourcesList(debianSources("trixie", "http://m/debian", "http://m/security"), "/k.gpg");
    expect(list.split("\n")).toEqual([
      "deb [signed-by=/k.gpg] http://m/debian trixie main",
      "deb [signed-by=/k.gpg] http://m/debian trixie-updates main",
      "deb [signed-by=/k.gpg] http://m/security trixie-security main",
      "",
    ]);
  });

  it("reads what an installation would bring and fetch", () => {
    const output =
      "Inst gcc-14-base (14.2.0-19 Debian:13/stable [amd64])\nInst libc6 [2.40] (2.41-12 Debian:13/stable, x [amd64]) []\nConf libc6 (2.41-12 Debian:13/stable [amd64])\n";
    expect(parseSimulation(output)).toEqual([
      { name: "gcc-14-base", version: "14.2.0-19", architecture: "amd64" },
      { name: "libc6", version: "2.41-12", architecture: "amd64" },
    ]);
    expect(
      parseUris(
        "Reading…\n'http://m/a.deb' a_1_amd64.deb 100 SHA256:00\n'http://m/b.deb' b_1_all.deb 23 SHA256:11\n'http://m/x' x.tar 9\n",
      ),
    ).toEqual({ packages: 2, downloadBytes: 123 });
    expect(debFileName({ name: "qemu", version: "1:10.0", architecture: "amd64" })).toBe("qemu_1%3a10.0_amd64.deb");
  });
});

describe("the host's network", () => {
  it("passes on proxies and certificates, nothing else", () => {
    expect(networkEnvironment({ https_proxy: "http://p", NODE_EXTRA_CA_CERTS: "/ca.pem", API_TOKEN: "secret" })).toEqual({
      https_proxy: "http://p",
      NODE_EXTRA_CA_CERTS: "/ca.pem",
    });
  });

  it("[IMG-10] runs npm on our own Node, however npm was found", () => {
    expect(npmCommand({}, "/our/bin/node")).toMatchObject({
      program: "npm",
      env: { PATH: expect.stringMatching(/^\/our\/bin:/) as unknown },
    });
    expect(npmCommand({ npm_execpath: "/nvm/lib/npm-cli.js" }, "/our/bin/node")).toEqual({
      program: "/our/bin/node",
      args: ["/nvm/lib/npm-cli.js"],
      env: {},
    });
    expect(npmCommand({ npm_execpath: "/usr/bin/yarn.js" }, "/our/bin/node").program).toBe("npm");
  });
});
