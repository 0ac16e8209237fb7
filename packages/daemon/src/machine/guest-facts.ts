/**
 * What must be known of a VM's guest beside its record: kept in the VM's directory, so that a
 * daemon which takes the VM over can still save its memory.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { z } from "zod";

const guestFacts = z.object({
  /** Digest of the system image it was booted from. */
  system: z.string(),
  /** Generation of the protocol that its agent speaks. */
  generation: z.int(),
});
export type GuestFacts = z.infer<typeof guestFacts>;

export async function writeGuestFacts(directory: string, facts: GuestFacts): Promise<void> {
  await fs.mkdir(directory, { recursive: true, mode: 0o700 });
  await fs.writeFile(path.join(directory, "guest.json"), JSON.stringify(facts));
}

/** Undefined when the VM left none: its memory can then not be kept. */
export async function readGuestFacts(directory: string): Promise<GuestFacts | undefined> {
  try {
    return guestFacts.parse(JSON.parse(await fs.readFile(path.join(directory, "guest.json"), "utf8")));
  } catch {
    return undefined;
  }
}
