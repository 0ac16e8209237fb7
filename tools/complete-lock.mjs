import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

/**
 * Adds to package-lock.json what `npm install` leaves out when a registry mirror lacks the builds for
 * other platforms: `npm ci` refuses a lock file without them although it never installs them. Run
 * after changing dependencies; `tests/tidy` says when it is needed.
 */

/** @typedef {{ version?: string, optional?: boolean, dev?: boolean, os?: string[], cpu?: string[], libc?: string[], optionalDependencies?: Record<string, string> }} LockEntry */

/**
 * Entries that a lock file misses, by their place in it. Pure.
 * @param {Record<string, LockEntry>} packages
 * @returns {Record<string, LockEntry>}
 */
export function missingPlatforms(packages) {
  /** @type {Record<string, LockEntry>} */
  const missing = {};
  for (const entry of Object.values(packages)) {
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
      const isThere = Object.keys(packages).some((where) => where === `node_modules/${name}` || where.endsWith(`/node_modules/${name}`));
      if (!isThere) missing[`node_modules/${name}`] = { version, ...platformOf(name), ...(entry.dev ? { dev: true } : {}), optional: true };
    }
  }
  return missing;
}

/**
 * What a package named after its platform runs on: `@x/binding-linux-arm64-musl`.
 * @param {string} name
 * @returns {{ os: string[], cpu: string[], libc?: string[] }}
 */
export function platformOf(name) {
  const match =
    /(android|darwin|freebsd|linux|netbsd|openbsd|openharmony|sunos|aix|win32)-(arm64|arm|x64|ia32|ppc64|riscv64|s390x|loong64|mips64el)(?:-(\w+))?$/.exec(
      name,
    );
  if (!match?.[1] || !match[2]) throw new Error(`${name}: its platform cannot be told from its name; add it to package-lock.json by hand`);
  const libc = match[3]?.startsWith("musl") ? ["musl"] : match[3]?.startsWith("gnu") ? ["glibc"] : undefined;
  return { os: [match[1]], cpu: [match[2]], ...(libc ? { libc } : {}) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const file = path.join(path.dirname(path.dirname(process.argv[1])), "package-lock.json");
  const lock = JSON.parse(readFileSync(file, "utf8"));
  const added = missingPlatforms(lock.packages);
  const all = Object.entries({ ...lock.packages, ...added }).sort(([a], [b]) => a.localeCompare(b, "en"));
  lock.packages = Object.fromEntries(all);
  writeFileSync(file, `${JSON.stringify(lock, undefined, 2)}\n`);
  console.log(`${Object.keys(added).length} entries added`);
}
