/** What a client hears of a session whose outcome is not known. */
import type { SessionEnd } from "../../exec/exec.ts";

/**
 * Exit code of a lost session: what ssh uses for a lost connection. Clients that get none hang,
 * or take the end for success.
 */
export const LOST_EXIT_CODE = 255;

/** The line that people read in the command's own output. */
export function lostText(end: Extract<SessionEnd, { kind: "lost" }>, options: { tty: boolean }): string {
  const line = `sprited: the command's outcome is not known: ${printable(end.reason)}`;
  return options.tty ? `\r\n${line}\r\n` : `${line}\n`;
}

/** Reasons may come from a guest: nothing in them may steer a terminal. */
function printable(text: string): string {
  return text.slice(0, 500).replace(/[\p{Cc}\p{Cs}]+/gu, " ");
}
