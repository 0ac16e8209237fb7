export { type Caller, requireAdmin, requireSpriteName } from "./caller.ts";
export { ensureFirstToken } from "./first-token.ts";
export { Organizations } from "./organizations.ts";
export { type QuotaLimits, Quotas } from "./quotas.ts";
export { allocatedGb } from "./usage.ts";
