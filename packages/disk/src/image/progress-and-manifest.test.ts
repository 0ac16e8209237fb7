import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InstallProgress } from "./install-progress.ts";
import { parseDpkgStatus } from "./manifest.ts";

const build = (packages: string[]): string[] => [
  "Get:1 http://deb.debian.org/debian trixie InRelease [140 kB]",
  "Get:2 http://deb.debian.org/debian trixie/main amd64 Packages [9679 kB]",
  `0 upgraded, ${packages.length} newly installed, 0 to remove and 0 not upgraded.`,
  ...packages.map((name, index) => `Get:${index + 1} http://deb.debian.org/debian trixie/main amd64 ${name} amd64 1:2.0-1 [49.4 kB]`),
  ...packages.map((name) => `Unpacking ${name} (1:2.0-1) ...`),
  ...packages.map((name) => `Setting up ${name} (1:2.0-1) ...`),
];

describe("InstallProgress", () => {
  it("[IMG-9] goes from nothing to nearly all, a step per package, and says what it is at", () => {
    const progress = new InstallProgress(4);
    const said = build(["a", "b", "c", "d"]).map((line) => progress.take(line));
    expect(said.filter(Boolean)).toEqual(expect.arrayContaining(["fetching package lists", "fetching a", "unpacking c", "setting up d"]));
    expect(progress.fraction).toBe(0.99);
  });

  it("[IMG-9] never goes back, whatever the lines", () => {
    const lines = fc.array(fc.oneof(fc.constantFrom(...build(["a", "b"])), fc.string()), { maxLength: 60 });
    fc.assert(
      fc.property(lines, fc.integer({ min: 0, max: 10 }), (input, expected) => {
        const progress = new InstallProgress(expected);
        let before = 0;
        for (const line of input) {
          progress.take(line);
          expect(progress.fraction).toBeGreaterThanOrEqual(before);
          expect(progress.fraction).toBeLessThan(1);
          before = progress.fraction;
        }
      }),
    );
  });

  it("does not count package lists as packages", () => {
    const progress = new InstallProgress(1);
    progress.take("Get:4 http://deb.debian.org/debian trixie/main amd64 Packages [9679 kB]");
    expect(progress.fraction).toBe(0);
  });
});

describe("parseDpkgStatus", () => {
  it("[IMG-4] lists what is installed, sorted, and leaves out what was removed", () => {
    const status = [
      "Package: vim\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2:9.1\nDescription: editor\n Package: not this",
      "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1",
      "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2",
      "",
    ].join("\n\n");
    expect(parseDpkgStatus(status)).toEqual([
      { name: "bash", version: "5.2", architecture: "amd64" },
      { name: "vim", version: "2:9.1", architecture: "amd64" },
    ]);
  });
});
