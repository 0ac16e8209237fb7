export { assert, AssertionError, unreachable } from "./assert.ts";
export { passedOn } from "./buffer-garbage.ts";
export { after, type Clock, DeadlineError, every, sleep, systemClock, waitFor, withDeadline } from "./clock.ts";
export { ignore } from "./ignore.ts";
export { Listeners } from "./listeners.ts";
export { type Logger, type LogFields, silentLogger } from "./log.ts";
export { Mailbox, MailboxFullError } from "./mailbox.ts";
export { run, RunError, type RunOptions, type RunResult } from "./run.ts";
export { Scope, ScopeError } from "./scope.ts";
