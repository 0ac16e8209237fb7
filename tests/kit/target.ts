/**
 * A server under test, seen from outside: base URL and token, nothing else. Every suite that can
 * run against the simulated testbed and against real VMs takes a `Target` and knows no more.
 */
import { randomBytes } from "node:crypto";
import { SpritesClient } from "@fly/sprites";
import { ignore } from "@sprited/base";

export interface Target {
  /** `simulated`: commands run on this host, without isolation; `vm`: real VMs. */
  kind: "simulated" | "vm";
  /** Without a slash at the end. */
  baseUrl: string;
  /** An admin token. */
  token: string;
  /** Slug of the organization that the token belongs to. */
  organization: string;
}

/** The unmodified official client, pointed at `target`. */
export function sdkOf(target: Target, options: { token?: string; controlMode?: boolean; timeout?: number } = {}): SpritesClient {
  const { token, ...rest } = options;
  return new SpritesClient(token ?? target.token, { baseURL: target.baseUrl, ...rest });
}

/** A sprite name nobody else uses. */
export function uniqueName(what: string): string {
  return `${what}-${randomBytes(4).toString("hex")}`;
}

/** Runs `work` with a new sprite and deletes it whatever happens. */
export async function withSprite<T>(
  target: Target,
  what: string,
  work: (sprite: Awaited<ReturnType<SpritesClient["createSprite"]>>) => Promise<T>,
): Promise<T> {
  const client = sdkOf(target, { timeout: 120_000 });
  const sprite = await client.createSprite(uniqueName(what));
  try {
    return await work(sprite);
  } finally {
    await sprite.delete().catch(ignore("the test may have deleted it, or the server is gone"));
  }
}
