/** What documents promise and what sources hold must be the same. */
import { existsSync } from "node:fs";
import path from "node:path";
import { ERRORS } from "@sprited/protocol/errors";
import { describe, expect, it } from "vitest";
import { read, repositoryFiles, ROOT } from "./repository.ts";

const specs = repositoryFiles().filter((file) => /^docs\/spec\/[^/]+\.md$/.test(file));
const tests = repositoryFiles().filter(
  (file) => file.endsWith(".test.ts") || /\/contract\//.test(file) || /^tests\/conformance\/.*\.ts$/.test(file),
);

/** Rule ids defined in the specs, `**LIFE-4**` at the beginning of a list item. */
function definedRules(): string[] {
  return specs.flatMap((file) => [...read(file).matchAll(/^- \*\*([A-Z]+-\d+)\*\*/gm)].map((match) => match[1] ?? ""));
}

/** Rule ids in square brackets in the titles of tests; one title may carry several. */
function testedRules(): Map<string, string> {
  const found = new Map<string, string>();
  for (const file of tests) {
    for (const match of read(file).matchAll(/\[([A-Z]+-\d+(?:[, ]+[A-Z]+-\d+)*)\]/g)) {
      for (const id of (match[1] ?? "").split(/[, ]+/)) found.set(id, file);
    }
  }
  return found;
}

describe("specifications", () => {
  it("define each rule once", () => {
    const rules = definedRules();
    expect(rules.filter((id, index) => rules.indexOf(id) !== index)).toEqual([]);
  });

  it("have a test for every rule", () => {
    const tested = testedRules();
    expect(definedRules().filter((id) => !tested.has(id))).toEqual([]);
  });

  it("know every rule that a test names", () => {
    const defined = new Set(definedRules());
    const families = new Set([...defined].map((id) => id.split("-")[0]));
    const unknown = [...testedRules()].filter(([id]) => families.has(id.split("-")[0]) && !defined.has(id));
    expect(unknown).toEqual([]);
  });
});

describe("docs/errors.md", () => {
  it("lists the codes of the registry, all of them and no other", () => {
    const listed = [...read("docs/errors.md").matchAll(/^\| `([a-z0-9_]+)` \|/gm)].map((match) => match[1]);
    expect(new Set(listed)).toEqual(new Set(Object.keys(ERRORS)));
    expect(listed).toHaveLength(Object.keys(ERRORS).length);
  });
});

describe("documents", () => {
  it("are linked to what exists", () => {
    const broken = repositoryFiles()
      .filter((file) => file.endsWith(".md"))
      .flatMap((file) =>
        [...read(file).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
          .map((match) => match[1] ?? "")
          .filter((target) => !/^[a-z]+:/.test(target) && !existsSync(path.join(ROOT, path.dirname(file), target)))
          .map((target) => `${file} → ${target}`),
      );
    expect(broken).toEqual([]);
  });

  it("name only files that exist where they name sources", () => {
    const broken = ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/compatibility.md"].flatMap((file) =>
      [...read(file).matchAll(/`((?:packages|tools|tests|docs|lint)\/[\w./-]+\.\w+)`/g)]
        .map((match) => match[1] ?? "")
        .filter((target) => !existsSync(path.join(ROOT, target)))
        .map((target) => `${file} → ${target}`),
    );
    expect(broken).toEqual([]);
  });

  it("the changelog has a place for what comes next, on top", () => {
    expect([...read("CHANGELOG.md").matchAll(/^## \[?([^\]\n]+)/gm)][0]?.[1]).toBe("Unreleased");
  });

  it("decisions are numbered without gaps in meaning: each number once", () => {
    const numbers = repositoryFiles()
      .filter((file) => /^docs\/adr\/\d{4}-[a-z0-9-]+\.md$/.test(file))
      .map((file) => path.basename(file).slice(0, 4));
    expect(numbers.length).toBeGreaterThan(0);
    expect(new Set(numbers).size).toBe(numbers.length);
    expect(repositoryFiles().filter((file) => file.startsWith("docs/adr/") && !/^docs\/adr\/\d{4}-[a-z0-9-]+\.md$/.test(file))).toEqual([]);
  });
});
