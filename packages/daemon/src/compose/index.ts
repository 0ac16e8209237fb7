export { composeFeatures, type Features } from "./features.ts";
export type { FeatureSettings, HostParts } from "./parts.ts";
