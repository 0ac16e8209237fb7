export { Jobs, type JobSettings } from "./jobs.ts";
export type { JobRequest } from "./request.ts";
export { jobView } from "./view.ts";
