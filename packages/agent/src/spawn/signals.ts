/** Names and numbers of signals. Names come without `SIG`. */
import os from "node:os";

const BY_NAME = new Map<string, number>(
  Object.entries(os.constants.signals).map(([name, number]) => [name.replace(/^SIG/, ""), number as number]),
);
const BY_NUMBER = new Map<number, string>();
for (const [name, number] of BY_NAME) if (!BY_NUMBER.has(number)) BY_NUMBER.set(number, name);

/** Undefined for a name that Linux does not know. */
export function signalNumber(name: string): number | undefined {
  return BY_NAME.get(name);
}

/** A real-time signal has no name of its own: `RT` and its number. */
export function signalName(number: number): string {
  return BY_NUMBER.get(number) ?? `RT${number}`;
}
