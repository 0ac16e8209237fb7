/**
 * The text of a token: `<org-slug>/<org-id>/<token-id>/<secret>`. Clients treat it as opaque; the
 * parts let us find the record without a search. Only the secret is secret, and only its hash is
 * ever stored: 32 random bytes need no slow hash.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

const SECRET_BYTES = 32;
/** Lower-case letters and digits without those that look alike. */
const ID_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789";
/** Longest text that can be a token of ours, characters. */
const TEXT_CHARACTERS_MAX = 256;

export interface TokenParts {
  organizationSlug: string;
  organizationId: string;
  tokenId: string;
  secret: string;
}

/** Undefined for text that cannot be a token of ours. */
export function parseToken(text: string): TokenParts | undefined {
  if (text.length > TEXT_CHARACTERS_MAX) return undefined;
  const [organizationSlug, organizationId, tokenId, secret, ...rest] = text.split("/");
  if (!organizationSlug || !organizationId || !tokenId || !secret || rest.length > 0) return undefined;
  return { organizationSlug, organizationId, tokenId, secret };
}

export function formatToken(parts: TokenParts): string {
  return [parts.organizationSlug, parts.organizationId, parts.tokenId, parts.secret].join("/");
}

export function newSecret(): string {
  return randomBytes(SECRET_BYTES).toString("base64url");
}

/** Hex SHA-256. */
export function hashSecret(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}

/** Compares in a time that does not depend on where the two differ. */
export function secretMatches(secret: string, hash: string): boolean {
  return timingSafeEqual(Buffer.from(hashSecret(secret), "hex"), Buffer.from(hash, "hex"));
}

/** A short random id. Modulo bias does not matter: ids are not secret. */
export function newId(length: number): string {
  return Array.from(randomBytes(length), (byte) => ID_ALPHABET[byte % ID_ALPHABET.length]).join("");
}
