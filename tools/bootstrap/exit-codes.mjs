/**
 * The exit codes the bootstrap itself can end with. The whole table, which these must agree
 * with (tested), is `packages/daemon/src/commands/exit-codes.ts`; the bootstrap cannot read it
 * because it also runs on a Node that does not know TypeScript.
 */
export const EXIT = Object.freeze({
  failed: 1,
  unsupportedHost: 10,
  oldNode: 11,
  noNetwork: 13,
  noSpace: 14,
  dependencies: 19,
});

/** An end with a sentence for the user and an exit code. */
export class BootstrapError extends Error {
  /**
   * @param {number} exitCode
   * @param {string} message what is wrong and what to do
   */
  constructor(exitCode, message) {
    super(message);
    this.name = "BootstrapError";
    this.exitCode = exitCode;
  }
}
