/** The proof that both ends of a link hold the key of this incarnation (LINK-1). */
import { createHmac, timingSafeEqual } from "node:crypto";

/** Hex proof of one side. */
export function proofOf(side: "host" | "agent", key: Uint8Array, incarnation: string, nonce: string): string {
  return createHmac("sha256", key).update(`${side}:${incarnation}:${nonce}`).digest("hex");
}

/** Compares in constant time. Both are 64 hex digits. */
export function sameProof(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}
