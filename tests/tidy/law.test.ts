/** The dependency law (ARCHITECTURE.md), read from manifests and imports, whatever npm hoists. */
import path from "node:path";
import { describe, expect, it } from "vitest";
import { importsOf, packageOf, PACKAGES, readManifest, sourceFiles } from "./repository.ts";

/** What each package may import of ours; a door is a path below `exports`. */
const LAW: Readonly<Record<string, readonly string[]>> = {
  base: [],
  protocol: [],
  vmm: ["@sprited/base"],
  disk: ["@sprited/base"],
  agent: ["@sprited/base", "@sprited/protocol/guest", "@sprited/protocol/stream"],
  daemon: ["@sprited/base", "@sprited/protocol", "@sprited/vmm", "@sprited/disk"],
  cli: ["@sprited/protocol"],
};

/** Third-party packages the agent may carry into guests. */
const AGENT_PACKAGES_MAX = 3;

const isOurs = (name: string): boolean => name.startsWith("@sprited/");
const isAllowed = (target: string, allowed: readonly string[]): boolean =>
  allowed.some((one) => target === one || target.startsWith(`${one}/`));

describe("the dependency law", () => {
  it("names every package", () => {
    expect([...PACKAGES].sort()).toEqual(Object.keys(LAW).sort());
  });

  it.each(PACKAGES)("manifest of %s lists only what the law allows", (name) => {
    const manifest = readManifest(`packages/${name}`);
    const listed = Object.keys({ ...manifest.dependencies, ...manifest.devDependencies }).filter(isOurs);
    const allowed = new Set((LAW[name] ?? []).map(packageOf));
    expect(listed.filter((one) => !allowed.has(one))).toEqual([]);
  });

  it.each(PACKAGES)("sources of %s import only what the law allows and the manifest lists", (name) => {
    const directory = `packages/${name}/`;
    const manifest = readManifest(`packages/${name}`);
    const forRun = Object.keys(manifest.dependencies ?? {});
    const forTypes = [...forRun, ...Object.keys(manifest.devDependencies ?? {})];
    const wrong: string[] = [];
    for (const file of sourceFiles({ tests: false }).filter((one) => one.startsWith(directory))) {
      for (const { target, isType } of importsOf(file)) {
        if (target.startsWith("node:")) {
          if (name === "protocol") wrong.push(`${file}: ${target}`);
        } else if (target.startsWith(".")) {
          const reached = path.normalize(path.join(path.dirname(file), target));
          if (!reached.startsWith(directory)) wrong.push(`${file}: ${target} leaves the package`);
        } else {
          if (isOurs(target) && !isAllowed(target, LAW[name] ?? [])) wrong.push(`${file}: ${target} is against the law`);
          const declared = isType ? forTypes : forRun;
          if (!declared.includes(packageOf(target))) wrong.push(`${file}: ${target} is not in the manifest`);
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  it("nothing imports the tests", () => {
    const wrong = sourceFiles({ tests: false })
      .filter((file) => file.startsWith("packages/"))
      .flatMap(importsOf)
      .filter(({ target }) => target.startsWith("@sprited/tests"));
    expect(wrong).toEqual([]);
  });

  it("the agent carries few packages of others", () => {
    const { dependencies = {} } = readManifest("packages/agent");
    expect(Object.keys(dependencies).filter((name) => !isOurs(name)).length).toBeLessThanOrEqual(AGENT_PACKAGES_MAX);
  });
});
