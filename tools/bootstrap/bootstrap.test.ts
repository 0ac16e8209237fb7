import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EXIT_CODES } from "../../packages/daemon/src/commands/exit-codes.ts";
import { BUNDLES, sourcesDigest, staleBundles, writeStamp } from "./bundles.mjs";
import { explainNpmFailure, matchesLock } from "./dependencies.mjs";
import { BootstrapError, EXIT } from "./exit-codes.mjs";
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
  const good = { platform: "linux", arch: "x64", nodeVersion: "v20.0.0" };

  it("accepts Linux x86-64 with Node 20 and newer", () => {
    expect(exitCodeOf(() => requirePlatform(good))).toBeUndefined();
    expect(exitCodeOf(() => requirePlatform({ ...good, nodeVersion: "v24.21.0" }))).toBeUndefined();
  });

  it("refuses other machines and older Nodes with a code of their own", () => {
    expect(exitCodeOf(() => requirePlatform({ ...good, arch: "arm64" }))).toBe(EXIT.unsupportedHost);
    expect(exitCodeOf(() => requirePlatform({ ...good, platform: "darwin" }))).toBe(EXIT.unsupportedHost);
    expect(exitCodeOf(() => requirePlatform({ ...good, nodeVersion: "v18.20.1" }))).toBe(EXIT.oldNode);
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
