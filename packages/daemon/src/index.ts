/** The door for tests and benchmarks: the daemon's parts without its command line. */
export { toApiError } from "./api/error-map.ts";
export { type ApiServer, startApiServer } from "./api/index.ts";
export { composeFeatures, type Features, type FeatureSettings, type HostParts } from "./compose/index.ts";
export { awaitIdle, bootstrapGuest, type GuestCarrier, type GuestLink, openLink } from "./guest/index.ts";
export { readPrometheusText, valueOf } from "./metrics/testing/prometheus-text.ts";
export { vmSpec } from "./machine/vm-spec.ts";
