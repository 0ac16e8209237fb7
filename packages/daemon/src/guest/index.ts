/** The door of the guest link. */
export { awaitIdle, bootstrapGuest } from "./boot-port.ts";
export { connectFailureOf, GuestError, type GuestFault } from "./errors.ts";
export { openLink } from "./http2-link.ts";
export type { Bootstrap, CallOptions, GuestCarrier, GuestLink, LinkKey, SessionEvent, SessionStream } from "./link.ts";
export { type FileAnswer, type GuestFileCall, GuestFileError } from "./file-call.ts";
