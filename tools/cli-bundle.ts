/**
 * Bundles the `sprite` CLI into `packages/cli/dist`; `packages/cli/bin/sprite` prefers it to the
 * sources.
 *
 * - `sprite.mjs`: `main.ts`, small, because `--version` loads nothing else.
 * - `program-….cjs`: all the rest in one file. One CommonJS file loads faster than the same code as
 *   modules in many chunks; a command's own module still runs only when the command does.
 *
 * Invariant: at any moment the program that `sprite.mjs` names is there: the new one (its name
 * carries a digest) comes before it, it is replaced by a rename, the old one goes after it.
 */
import { createHash } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { build, type BuildOptions, type Plugin } from "esbuild";

const ROOT = path.resolve(import.meta.dirname, "..");
const CLI = path.join(ROOT, "packages/cli");
const ENTRY = "sprite.mjs";
const PROGRAM = /^program-[0-9a-f]+\.cjs$/;

const OPTIONS = {
  bundle: true,
  minify: true,
  platform: "node",
  target: "node24",
  // `ws` looks for native helpers that are not installed; each look would cost file accesses at every start.
  define: { "process.env.WS_NO_BUFFER_UTIL": '"1"', "process.env.WS_NO_UTF_8_VALIDATE": '"1"' },
  external: ["bufferutil", "utf-8-validate"],
  write: false,
  logLevel: "warning",
} satisfies BuildOptions;

/** Writes the bundle into `target`, whose other files of earlier bundles it removes. */
export async function bundleCli(target = path.join(CLI, "dist")): Promise<void> {
  const program = await bundleText({
    ...OPTIONS,
    entryPoints: [path.join(CLI, "src/program.ts")],
    format: "cjs",
    plugins: [lateBuiltins()],
  });
  const name = `program-${createHash("sha256").update(program).digest("hex").slice(0, 12)}.cjs`;
  const entry = await bundleText({ ...OPTIONS, entryPoints: [path.join(CLI, "src/main.ts")], format: "esm", plugins: [programFile(name)] });
  await fs.mkdir(target, { recursive: true });
  await writeWhole(path.join(target, name), program);
  await writeWhole(path.join(target, ENTRY), entry);
  for (const file of await fs.readdir(target)) if (PROGRAM.test(file) && file !== name) await fs.rm(path.join(target, file));
}

async function bundleText(options: BuildOptions): Promise<string> {
  const [output] = (await build(options)).outputFiles ?? [];
  if (!output) throw new Error("the bundler made nothing");
  return output.text;
}

async function writeWhole(file: string, text: string): Promise<void> {
  await fs.writeFile(`${file}.new`, text);
  await fs.rename(`${file}.new`, file);
}

/** Built-ins that `ws` and `commander` load at once but need rarely or never, together 20 ms and more. */
const LATE_BUILTINS = /^(?:node:)?(https|tls|zlib|child_process)$/;

/** Loads those built-ins when something of them is first used. */
function lateBuiltins(): Plugin {
  return {
    name: "late built-ins",
    setup: (plugins) => {
      plugins.onResolve({ filter: LATE_BUILTINS }, ({ path: name, importer, namespace }) =>
        namespace === "file" && importer.includes("/node_modules/") ? { path: name.replace("node:", ""), namespace: "late" } : undefined,
      );
      plugins.onLoad({ filter: /.*/, namespace: "late" }, ({ path: name }) => ({
        contents: `module.exports = new Proxy({}, { get: (_, name) => require("node:${name}")[name] });`,
        loader: "js",
      }));
    },
  };
}

/** Makes the import of `program.ts` load the file `name` beside the entry. */
function programFile(name: string): Plugin {
  return {
    name: "program file",
    setup: (plugins) => {
      plugins.onResolve({ filter: /^\.\/program\.ts$/ }, () => ({ path: name, namespace: "program" }));
      plugins.onLoad({ filter: /.*/, namespace: "program" }, () => ({
        contents: `import { createRequire } from "node:module"; export const { main } = createRequire(import.meta.url)("./${name}");`,
        loader: "js",
      }));
    },
  };
}

if (import.meta.main) await bundleCli();
