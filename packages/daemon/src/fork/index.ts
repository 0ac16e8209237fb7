export { type ForkRequest, Forks } from "./forks.ts";
