/**
 * Bundles the guest agent: `agent.mjs` and the thread it starts, `file-worker.mjs`; beside them `node_modules` with the packages that
 * bring native code and therefore cannot be bundled. Nothing else is left outside.
 */
import { existsSync } from "node:fs";
import fs from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { build } from "esbuild";

const ROOT = path.resolve(import.meta.dirname, "..");

/** Packages kept outside the bundle, with the files of each that a Linux x86-64 guest needs. */
const NATIVE_PACKAGES: Readonly<Record<string, readonly RegExp[]>> = {
  koffi: [/^package\.json$/, /^index\.js$/, /^src\/koffi\/index\.js$/, /^src\/koffi\/src\/static\.js$/],
  "@koromix/koffi-linux-x64": [/^package\.json$/, /^index\.js$/, /^linux_x64\/.*\.node$/],
};

/** Writes the bundle into `target`, which it replaces. Throws when a package is not installed. */
export async function bundleAgent(target: string): Promise<void> {
  await fs.rm(target, { recursive: true, force: true });
  await fs.mkdir(target, { recursive: true });
  await build({
    entryPoints: {
      agent: path.join(ROOT, "packages/agent/src/main.ts"),
      "file-worker": path.join(ROOT, "packages/agent/src/fs/file-worker.ts"),
    },
    outdir: target,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    minifySyntax: true,
    platform: "node",
    target: "node24",
    format: "esm",
    external: Object.keys(NATIVE_PACKAGES),
    // Bundled CommonJS packages still ask for `require`.
    banner: { js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);' },
    logLevel: "warning",
  });
  for (const [name, patterns] of Object.entries(NATIVE_PACKAGES)) {
    await copyPackage(name, patterns, path.join(target, "node_modules", name));
  }
}

async function copyPackage(name: string, patterns: readonly RegExp[], target: string): Promise<void> {
  const source = packageDirectory(name);
  for (const file of await fs.readdir(source, { recursive: true })) {
    if (!patterns.some((pattern) => pattern.test(file))) continue;
    await fs.mkdir(path.dirname(path.join(target, file)), { recursive: true });
    await fs.copyFile(path.join(source, file), path.join(target, file));
  }
}

function packageDirectory(name: string): string {
  const require = createRequire(path.join(ROOT, "packages/agent/package.json"));
  for (const folder of require.resolve.paths(name) ?? []) {
    const candidate = path.join(folder, name);
    if (existsSync(path.join(candidate, "package.json"))) return candidate;
  }
  throw new Error(`the package ${name} is not installed: run npm install`);
}
