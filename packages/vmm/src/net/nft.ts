/**
 * How rules are given to `nft`: as its one argument, applied in one transaction as those of a file.
 * Not as input: a child's input is a socket, and nft 1.0.9 (Ubuntu 24.04) reads files and pipes only.
 */

/** Arguments that apply `rules`, in the language of its files. Pure. */
export function nftArguments(rules: string): string[] {
  return ["--", rules];
}
