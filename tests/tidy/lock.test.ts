/** package-lock.json must serve every machine, whatever mirror it was made with. */
import { describe, expect, it } from "vitest";
import { missingPlatforms, platformOf } from "../../tools/complete-lock.mjs";
import { PACKAGES, read, readManifest } from "./repository.ts";

const lock = JSON.parse(read("package-lock.json")) as {
  packages: Record<
    string,
    { version?: string; integrity?: string; optional?: boolean; link?: boolean; dependencies?: Record<string, string> }
  >;
};

describe("package-lock.json", () => {
  it("has an entry for every platform (node tools/complete-lock.mjs adds them)", () => {
    expect(Object.keys(missingPlatforms(lock.packages))).toEqual([]);
  });

  it("knows the content of everything this platform installs", () => {
    const unknown = Object.entries(lock.packages).filter(
      ([where, entry]) =>
        where.includes("node_modules/") && entry.link !== true && entry.optional !== true && entry.integrity === undefined,
    );
    expect(unknown.map(([where]) => where)).toEqual([]);
  });

  it("agrees with the manifests", () => {
    for (const directory of [...PACKAGES.map((name) => `packages/${name}`), "tests"]) {
      expect(lock.packages[directory]?.dependencies ?? {}, directory).toEqual(readManifest(directory).dependencies ?? {});
    }
  });
});

describe("platformOf", () => {
  it("reads the platform from the name", () => {
    expect(platformOf("@oxlint/binding-linux-arm64-musl")).toEqual({ os: ["linux"], cpu: ["arm64"], libc: ["musl"] });
    expect(platformOf("@oxlint/binding-linux-arm-gnueabihf")).toEqual({ os: ["linux"], cpu: ["arm"], libc: ["glibc"] });
    expect(platformOf("@oxlint-tsgolint/win32-x64")).toEqual({ os: ["win32"], cpu: ["x64"] });
    expect(() => platformOf("fsevents")).toThrow("fsevents");
  });
});
