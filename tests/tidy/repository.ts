/**
 * The repository as the structure tests see it: tracked and new files, manifests, imports.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";

export const ROOT = path.resolve(import.meta.dirname, "..", "..");

/** Everything that belongs to the repository: tracked, or new and not ignored. */
export function repositoryFiles(): string[] {
  if (existsSync(path.join(ROOT, ".git"))) {
    const output = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: ROOT, encoding: "utf8" });
    return output.split("\0").filter((file) => file !== "" && existsSync(path.join(ROOT, file)));
  }
  // An unpacked archive has no index.
  return readdirSync(ROOT, { recursive: true, withFileTypes: true, encoding: "utf8" })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(ROOT, path.join(entry.parentPath, entry.name)))
    .filter((file) => !/(^|\/)(node_modules|dist|\.git)\//.test(file));
}

export function read(file: string): string {
  return readFileSync(path.join(ROOT, file), "utf8");
}

/** Program sources: TypeScript and plain modules, without tests when `tests` is false. */
export function sourceFiles(options: { tests: boolean }): string[] {
  return repositoryFiles().filter((file) => /\.(ts|mjs)$/.test(file) && (options.tests || !isTest(file)));
}

/** Tests, and the contract suites that only tests run. */
export function isTest(file: string): boolean {
  return file.endsWith(".test.ts") || file.includes("/contract/");
}

/** Folders below packages/. */
export const PACKAGES: readonly string[] = readdirSync(path.join(ROOT, "packages"));

export interface Manifest {
  name: string;
  exports?: Record<string, string>;
  bin?: Record<string, string>;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
}

export function readManifest(directory: string): Manifest {
  return JSON.parse(read(path.join(directory, "package.json"))) as Manifest;
}

export interface Import {
  /** File that imports. */
  file: string;
  /** What stands between the quotes. */
  target: string;
  /** Vanishes when types are stripped. */
  isType: boolean;
}

/** Every static and dynamic import of a file, as far as text shows them. */
export function importsOf(file: string): Import[] {
  const text = read(file);
  const found: Import[] = [];
  for (const match of text.matchAll(/^(?:import|export)\s+(type\s)?(?:[^"';]*?\sfrom\s+)?"([^"]+)";/gm)) {
    found.push({ file, target: match[2] ?? "", isType: match[1] !== undefined });
  }
  for (const match of text.matchAll(/\bimport\("([^"]+)"\)/g)) found.push({ file, target: match[1] ?? "", isType: false });
  return found;
}

/** `@sprited/protocol/guest` → `@sprited/protocol`; `zod/v4` → `zod`. */
export function packageOf(target: string): string {
  const parts = target.split("/");
  return target.startsWith("@") ? parts.slice(0, 2).join("/") : (parts[0] ?? "");
}
