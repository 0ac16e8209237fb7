/** How files are cut and named (CONTRIBUTING.md). */
import path from "node:path";
import { describe, expect, it } from "vitest";
import { isTest, PACKAGES, read, repositoryFiles, sourceFiles } from "./repository.ts";

const LINES_MAX = 400;
const README_LINES_MAX = 40;
const FORBIDDEN_NAMES = new Set(["utils", "helpers", "common", "misc", "manager", "core", "types"]);
/** Programs that others start by their path. */
const WITHOUT_EXTENSION = new Set(["sprite", "sprited", "run"]);

describe("source files", () => {
  it(`have at most ${LINES_MAX} lines, tests aside`, () => {
    const long = sourceFiles({ tests: false })
      .map((file) => ({ file, lines: read(file).split("\n").length - 1 }))
      .filter(({ file, lines }) => !file.startsWith("tests/") && lines > LINES_MAX);
    expect(long).toEqual([]);
  });

  it("are named in kebab-case after what they hold", () => {
    const wrong = sourceFiles({ tests: true }).filter((file) => {
      const name = path.basename(file).split(".")[0] ?? "";
      return !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name) || FORBIDDEN_NAMES.has(name);
    });
    expect(wrong).toEqual([]);
  });

  it("begin by saying what they are", () => {
    const silent = sourceFiles({ tests: false }).filter((file) => {
      if (/(^|\/)index\.ts$/.test(file) || !/^packages\/[^/]+\/src\//.test(file)) return false;
      // A header, or the docstring of the only thing in the file.
      return !/\/\*\*/.test(read(file).split("\n").slice(0, 40).join("\n"));
    });
    expect(silent).toEqual([]);
  });

  it("export by name, one by one", () => {
    const stars = sourceFiles({ tests: true }).filter((file) => /^export \*/m.test(read(file)));
    expect(stars).toEqual([]);
    const defaults = sourceFiles({ tests: true }).filter(
      (file) => /^export default/m.test(read(file)) && file !== "vitest.config.ts" && file !== "lint/plugin.ts",
    );
    expect(defaults).toEqual([]);
  });

  it("disable a lint rule only with a reason", () => {
    const silent = sourceFiles({ tests: true }).filter((file) =>
      read(file)
        .split("\n")
        .some((line) => /^\s*\/\/ (oxlint|eslint)-disable/.test(line) && !/ -- \S/.test(line)),
    );
    expect(silent).toEqual([]);
  });

  it("leave no notes to self", () => {
    // In pieces, so that this file does not leave one.
    const marks = new RegExp(["TO", "DO|FIX", "ME|XX", "X"].join(""));
    expect(sourceFiles({ tests: true }).filter((file) => marks.test(read(file)))).toEqual([]);
  });

  it("never replace modules in tests", () => {
    const mock = `vi.${"mock"}(`;
    expect(sourceFiles({ tests: true }).filter((file) => isTest(file) && read(file).includes(mock))).toEqual([]);
  });
});

describe("packages", () => {
  it.each(PACKAGES)(`%s has a README of at most ${README_LINES_MAX} lines that names its door and its tests`, (name) => {
    const text = read(`packages/${name}/README.md`);
    expect(text.split("\n").length - 1).toBeLessThanOrEqual(README_LINES_MAX);
    expect(text).toContain("May import");
    expect(text).toContain("Door");
    expect(text).toContain("Test");
  });
});

describe("the repository", () => {
  /** Places of one developer's machine, written in pieces so that this file does not name them. */
  const places = [
    ["/wo", "rk/"],
    ["/tmp/", "dev-home"],
    ["/tmp/", "sp/"],
    ["/tmp/", "brief"],
  ].map((parts) => parts.join(""));

  it("names no place of a developer's machine", () => {
    const named = repositoryFiles()
      .filter((file) => !/package-lock\.json$|\.(png|svg|gif|cast)$/.test(file))
      .flatMap((file) => {
        const text = read(file);
        return places.filter((place) => text.includes(place)).map((place) => `${file}: ${place}`);
      });
    expect(named).toEqual([]);
  });

  it("keeps executables few and named", () => {
    const plain = repositoryFiles().filter((file) => !path.basename(file).includes(".") && /^(packages\/[^/]+\/bin|\.ci)\//.test(file));
    expect(plain.filter((file) => !WITHOUT_EXTENSION.has(path.basename(file)))).toEqual([]);
  });
});
