import { readFileSync } from "node:fs";
import path from "node:path";
import { parse as parseToml, TomlError } from "smol-toml";
import type { z } from "zod";
import { ConfigError } from "./errors.ts";
import { automaticValues, defaultHome, type HostFacts, hostFacts } from "./host-defaults.ts";
import { type ConfigField, type ConfigFile, configFields, configSchema, parseListen } from "./schema.ts";

/**
 * Settings from, in rising order: defaults, `$SPRITED_HOME/sprited.toml`, environment `SPRITED_*`.
 *
 * Invariants: this folder alone reads the environment; the result is plain data in camelCase;
 * every problem is reported at once, each naming its key and where it came from.
 */

type CamelCase<S extends string> = S extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<CamelCase<Tail>>}` : S;
type CamelKeys<T> = T extends readonly unknown[] ? T : T extends object ? { [K in keyof T as CamelCase<K & string>]: CamelKeys<T[K]> } : T;

/** Where a setting's value came from. */
export type ConfigSource = "default" | "automatic" | "file" | "environment";

/** Every setting with its effective value. */
export type Config = Omit<CamelKeys<ConfigFile>, "listen"> & {
  /** Address of the API, parsed. */
  listen: { host: string; port: number };
  /** Who shall own the token file when root acts for somebody (sudo); undefined: root keeps it. */
  owner: { uid: number; gid: number } | undefined;
};

/** A setting as `config print` shows it. */
export interface EffectiveSetting {
  field: ConfigField;
  value: unknown;
  source: ConfigSource;
}

export interface LoadedConfig {
  config: Config;
  settings: EffectiveSetting[];
  /** The file that was looked for. */
  filePath: string;
  /** Sentences worth showing that do not stop anything. */
  warnings: string[];
}

export interface LoadOptions {
  environment?: Readonly<Record<string, string | undefined>>;
  host?: HostFacts;
  /** Content of the file, undefined when there is none. Throws what reading throws. */
  readFile?: (path: string) => string | undefined;
}

/** Longest home for which every unix socket path below it stays within the kernel's 107 bytes. */
export const HOME_BYTES_MAX = 64;

/** Names that scripts around us use; they are not settings and draw no warning. */
const FOREIGN_VARIABLES = /^SPRITED_(TEST_|CONFIG_|TOKEN$|URL$)/;

/** Loads and checks all settings. Throws `ConfigError`. */
export function loadConfig(options: LoadOptions = {}): LoadedConfig {
  const environment = options.environment ?? process.env;
  const host = options.host ?? hostFacts(environment);
  const fields = configFields();
  const home = path.resolve(environment["SPRITED_HOME"] || defaultHome(host));
  const filePath = path.join(home, "sprited.toml");
  const fromFile = readSettingsFile(filePath, options.readFile ?? readFileIfThere);
  const { values: fromEnvironment, problems } = readEnvironment(fields, environment);
  if ("home" in fromFile) problems.push(`home in ${filePath}: cannot be set in the file that lies in it; set SPRITED_HOME`);

  const merged = mergeLayers(fields, { file: fromFile, environment: fromEnvironment, host, home });
  problems.push(...unknownKeys(fields, fromFile, filePath));
  const parsed = configSchema.safeParse(merged.tree);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      if (issue.code !== "unrecognized_keys") problems.push(explainIssue(issue, merged.sources, filePath));
    }
  }
  problems.push(...checkHome(home));
  if (problems.length > 0 || !parsed.success) throw new ConfigError(problems);
  const settings = fields.map((field) => ({
    field,
    value: pick(parsed.data as Record<string, unknown>, field.key),
    source: merged.sources.get(field.key) ?? "default",
  }));
  return {
    config: toConfig(parsed.data, environment, host),
    settings,
    filePath,
    warnings: unknownVariables(fields, environment),
  };
}

function toConfig(values: ConfigFile, environment: Readonly<Record<string, string | undefined>>, host: HostFacts): Config {
  const uid = Number(environment["SUDO_UID"]);
  const gid = Number(environment["SUDO_GID"]);
  const forSomebody = host.uid === 0 && Number.isInteger(uid) && uid > 0 && Number.isInteger(gid);
  return {
    ...(camelKeys(values) as CamelKeys<ConfigFile>),
    listen: parseListen(values.listen) ?? { host: "127.0.0.1", port: 0 },
    owner: forSomebody ? { uid, gid } : undefined,
  };
}

function camelKeys(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()), camelKeys(inner)]),
  );
}

function readFileIfThere(filePath: string): string | undefined {
  try {
    return readFileSync(filePath, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}

function readSettingsFile(filePath: string, read: (path: string) => string | undefined): Record<string, unknown> {
  let text: string | undefined;
  try {
    text = read(filePath);
  } catch (cause) {
    throw new ConfigError([`${filePath}: cannot be read; check its owner and mode`], { cause });
  }
  if (text === undefined) return {};
  try {
    return parseToml(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    throw new ConfigError([`${filePath}:${cause.line}:${cause.column}: not valid TOML`], { cause });
  }
}

function readEnvironment(fields: readonly ConfigField[], environment: Readonly<Record<string, string | undefined>>) {
  const values = new Map<string, unknown>();
  const problems: string[] = [];
  for (const field of fields) {
    const text = environment[field.variable];
    if (text === undefined || (text === "" && field.type !== "text" && field.type !== "list")) continue;
    if (field.key === "home") continue;
    if (field.type === "number" && !/^-?\d+$/.test(text.trim())) {
      problems.push(`${field.variable}: must be a whole number${inUnit(field)}`);
    } else if (field.type === "number") {
      values.set(field.key, Number(text));
    } else if (field.type === "list") {
      values.set(
        field.key,
        text
          .split(",")
          .map((part) => part.trim())
          .filter(Boolean),
      );
    } else {
      values.set(field.key, text);
    }
  }
  return { values, problems };
}

interface Layers {
  file: Record<string, unknown>;
  environment: Map<string, unknown>;
  host: HostFacts;
  home: string;
}

function mergeLayers(fields: readonly ConfigField[], layers: Layers) {
  const tree: Record<string, unknown> = {};
  const sources = new Map<string, ConfigSource>();
  const storage = layers.environment.get("sprite.storage_gb") ?? pick(layers.file, "sprite.storage_gb");
  const automatic = automaticValues(layers.host, layers.home, typeof storage === "number" ? storage : 100);
  for (const field of fields) {
    const fileValue = field.key === "home" ? undefined : pick(layers.file, field.key);
    const [source, value]: [ConfigSource, unknown] = layers.environment.has(field.key)
      ? ["environment", layers.environment.get(field.key)]
      : fileValue !== undefined
        ? ["file", fileValue]
        : field.fixedDefault === undefined
          ? ["automatic", automatic[field.key]]
          : ["default", field.fixedDefault];
    sources.set(field.key, source);
    put(tree, field.key, value);
  }
  return { tree, sources };
}

function explainIssue(issue: z.core.$ZodIssue, sources: Map<string, ConfigSource>, filePath: string): string {
  const parts = issue.path.map(String);
  const key = sources.has(parts.join(".")) ? parts.join(".") : parts.slice(0, 2).join(".");
  const origin = sources.get(key) === "environment" ? `SPRITED_${key.replaceAll(".", "_").toUpperCase()}` : `${key} in ${filePath}`;
  return `${origin}: ${issue.message}`;
}

/** A table where a value belongs (or the reverse) is left to the schema; this finds what it has no name for. */
function unknownKeys(fields: readonly ConfigField[], file: Record<string, unknown>, filePath: string): string[] {
  const known = fields.map((field) => field.key);
  const sections = new Set(known.filter((key) => key.includes(".")).map((key) => key.split(".")[0] ?? ""));
  const found: string[] = [];
  for (const [name, value] of Object.entries(file)) {
    if (known.includes(name)) continue;
    if (!sections.has(name)) found.push(name);
    else if (typeof value !== "object" || value === null || Array.isArray(value)) return [`${name} in ${filePath}: must be a table`];
    else
      found.push(
        ...Object.keys(value)
          .map((inner) => `${name}.${inner}`)
          .filter((key) => !known.includes(key)),
      );
  }
  return found.map((key) => `${key} in ${filePath}: no such setting${suggestion(key, known)}`);
}

function unknownVariables(fields: readonly ConfigField[], environment: Readonly<Record<string, string | undefined>>): string[] {
  const known = fields.map((field) => field.variable);
  return Object.keys(environment)
    .filter((name) => name.startsWith("SPRITED_") && !known.includes(name) && !FOREIGN_VARIABLES.test(name))
    .map((name) => `${name} in the environment: no such setting${suggestion(name, known)}; it has no effect`);
}

function checkHome(home: string): string[] {
  const bytes = Buffer.byteLength(home);
  if (bytes <= HOME_BYTES_MAX) return [];
  return [
    `SPRITED_HOME: ${home} is ${bytes} bytes long; at most ${HOME_BYTES_MAX} leave room for the unix sockets below it. Choose a shorter path`,
  ];
}

function inUnit(field: ConfigField): string {
  return field.meta.unit === undefined ? "" : ` (${field.meta.unit})`;
}

/** `; did you mean …?` when something known is at most two letters away. */
function suggestion(wrong: string, known: readonly string[]): string {
  const [best] = known.map((key) => ({ key, distance: editDistance(wrong, key) })).sort((a, b) => a.distance - b.distance);
  return best !== undefined && best.distance <= 2 ? `; did you mean ${best.key}?` : "";
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const current = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(replaced, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}

function pick(tree: Record<string, unknown>, key: string): unknown {
  let at: unknown = tree;
  for (const part of key.split(".")) at = typeof at === "object" && at !== null ? (at as Record<string, unknown>)[part] : undefined;
  return at;
}

function put(tree: Record<string, unknown>, key: string, value: unknown): void {
  const parts = key.split(".");
  const leaf = parts.pop() ?? "";
  let at = tree;
  for (const part of parts) at = (at[part] ??= {}) as Record<string, unknown>;
  at[leaf] = value;
}
