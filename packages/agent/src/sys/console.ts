/** Short lines on the VM's console, for whoever looks for why a VM does not answer. Never secrets. */
import fs from "node:fs";

const LINE_LENGTH_MAX = 400;

/** Writes one line, synchronously: it must be there even when the agent ends next. */
export function say(message: string): void {
  fs.writeSync(2, `sprited: ${message.replaceAll("\n", " ").slice(0, LINE_LENGTH_MAX)}\n`);
}
