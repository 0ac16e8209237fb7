export { configurationDocument, printSettings, settingsJson } from "./describe.ts";
export { ConfigError } from "./errors.ts";
export { type Config, type LoadedConfig, loadConfig } from "./load.ts";
export { configFields } from "./schema.ts";
