/** What became of a tree. */
export interface TreeResult {
  /** All of the tree, also those that were there already. */
  files: number;
  /** Of these files. */
  bytes: number;
  /** Files that were there already when the command began. */
  kept: number;
  /** What was left out, a line each. */
  skipped: string[];
}
