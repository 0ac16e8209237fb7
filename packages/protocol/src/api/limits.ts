/**
 * Limits of the API that both sides may check. Sizes in bytes unless the name says otherwise.
 */
export const API_LIMITS = {
  /** JSON request body. */
  bodyBytesMax: 1024 * 1024,
  /** Request head with its URL; the command and its environment travel there. */
  headBytesMax: 1024 * 1024,
  /** WebSocket message from a client. */
  messageBytesMax: 32 * 1024 * 1024,
  /** Sprites on one page of a list. Larger requests are clamped. */
  pageMax: 1000,
  /** Sprites on a page when nothing is asked. */
  pageDefault: 50,
  spriteNameMax: 63,
  organizationSlugMax: 32,
  labelsMax: 64,
  labelCharactersMax: 128,
  environmentEntriesMax: 1024,
  /** A sprite's environment as JSON; it is handed to the guest in one line (`GUEST_LIMITS.bootLineBytesMax`). */
  environmentBytesMax: 60 * 1024,
  /** Arguments and variables of one command. */
  argumentsMax: 16_384,
  /** One argument, or one `NAME=value`; Linux refuses longer ones. */
  argumentBytesMax: 128 * 1024 - 1,
  /** All arguments and variables of one command. */
  commandBytesMax: 512 * 1024,
  /** Input of a job. */
  jobInputBytesMax: 1024 * 1024,
  /** A year. */
  jobTimeoutSecondsMax: 365 * 24 * 3600,
} as const;
