export { type Caller, requireAdmin, requireSpriteName } from "./caller.ts";
export { ensureFirstToken, FIRST_ORGANIZATION_SLUG } from "./first-token.ts";
export { Organizations } from "./organizations.ts";
