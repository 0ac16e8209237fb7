export { configurationDocument, printSettings, settingsJson } from "./describe.ts";
export { ConfigError } from "./errors.ts";
export { type HostFacts, hostFacts } from "./host-defaults.ts";
export { type Config, type ConfigSource, type EffectiveSetting, HOME_BYTES_MAX, type LoadedConfig, loadConfig } from "./load.ts";
export { configFields } from "./schema.ts";
