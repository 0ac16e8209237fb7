export { Archives } from "./archives.ts";
