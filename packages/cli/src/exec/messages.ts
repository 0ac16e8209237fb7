/** The lines on standard error about a connection: lost, back, given up, output missing. Pure. */

/** Output that the server no longer had when we came back. */
export function gapMessage(bytes: number): string {
  return `sprite: ${bytes} bytes of output are missing here: the server no longer has them`;
}
