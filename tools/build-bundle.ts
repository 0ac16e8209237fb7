import path from "node:path";

/**
 * Runs one bundling script: `build-bundle.ts SCRIPT TARGET`. A bundling module exports exactly one
 * function named `bundle…`, which takes the target.
 */

const [script = "", target = ""] = process.argv.slice(2);
const module = (await import(path.resolve(script))) as Record<string, unknown>;
const bundle = Object.entries(module).find(([name, value]) => name.startsWith("bundle") && typeof value === "function");
if (!bundle) throw new Error(`${script} exports no bundle function`);
await (bundle[1] as (target: string) => Promise<void>)(path.resolve(target));
