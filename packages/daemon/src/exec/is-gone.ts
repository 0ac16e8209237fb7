/** Telling a broken link from the end of the life behind it. */
import { sleep } from "@sprited/base";
import type { GuestLife } from "../sprite/index.ts";

/** How long after a broken link a VM's end is still taken as its cause, ms. */
const GONE_WITHIN_MS = 500;

/** Whether the life is over, or ends within a moment: its link breaks before its process is reaped. */
export async function isGone(life: GuestLife): Promise<boolean> {
  return await Promise.race([life.ended.then(() => true), sleep(GONE_WITHIN_MS).then(() => false)]);
}
