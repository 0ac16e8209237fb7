export { Metrics, type MetricSources } from "./exposition.ts";
export type { ServedRequest } from "./request-metrics.ts";
