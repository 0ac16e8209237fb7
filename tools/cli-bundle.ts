/**
 * Bundles the `sprite` CLI into `packages/cli/dist`: `sprite.mjs` and the chunks its commands load
 * when they run. `packages/cli/bin/sprite` prefers it to the sources.
 *
 * Invariant: at any moment the chunks that `sprite.mjs` names are there: new chunks (their names
 * carry a digest) come before it, it is replaced by a rename, old chunks go after it.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";

const ROOT = path.resolve(import.meta.dirname, "..");
const CLI = path.join(ROOT, "packages/cli");
const ENTRY = "sprite.mjs";

/** Writes the bundle into `target`, which it replaces. */
export async function bundleCli(target = path.join(CLI, "dist")): Promise<void> {
  const { outputFiles } = await build({
    entryPoints: { sprite: path.join(CLI, "src/main.ts") },
    outdir: target,
    outExtension: { ".js": ".mjs" },
    chunkNames: "chunks/[name]-[hash]",
    bundle: true,
    splitting: true,
    minifySyntax: true,
    minifyWhitespace: true,
    platform: "node",
    target: "node24",
    format: "esm",
    // `ws` looks for native helpers that are not installed; each look would cost file accesses at every start.
    define: { "process.env.WS_NO_BUFFER_UTIL": '"1"', "process.env.WS_NO_UTF_8_VALIDATE": '"1"' },
    external: ["bufferutil", "utf-8-validate"],
    banner: { js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);' },
    write: false,
    logLevel: "warning",
  });
  const entry = outputFiles.find((file) => path.basename(file.path) === ENTRY);
  if (!entry) throw new Error(`the bundler made no ${ENTRY}`);
  const chunks = outputFiles.filter((file) => file !== entry);
  const folder = path.join(target, "chunks");
  await fs.mkdir(folder, { recursive: true });
  for (const chunk of chunks) await fs.writeFile(chunk.path, chunk.contents);
  const pending = path.join(target, `.${ENTRY}.new`);
  await fs.writeFile(pending, entry.contents);
  await fs.rename(pending, path.join(target, ENTRY));
  const current = new Set(chunks.map((chunk) => path.basename(chunk.path)));
  for (const name of await fs.readdir(folder)) if (!current.has(name)) await fs.rm(path.join(folder, name));
}

if (import.meta.main) await bundleCli();
