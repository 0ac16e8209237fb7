/**
 * Organizations and their tokens: who owns sprites, and who may act for them.
 *
 * Invariants: a token's secret is never stored and shown once; a revoked token never authenticates
 * again; times of use reach the store at most once a minute and token, off the request's path.
 */
import { type Clock, ignore, type Logger } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import {
  type Database,
  findToken,
  insertOrganization,
  insertToken,
  listTokens,
  loadOrganizations,
  type OrganizationRecord,
  revokeToken,
  type TokenRecord,
  updateLastUsed,
} from "../store/index.ts";
import type { Caller } from "./caller.ts";
import { formatToken, hashSecret, newId, newSecret, parseToken, secretMatches } from "./token-text.ts";

const ORGANIZATION_ID_LENGTH = 8;
const TOKEN_ID_LENGTH = 12;
/** Precision of `last_used_at`, ms. */
const LAST_USED_STEP_MS = 60_000;
/** Pause before a use is written, ms: many requests, one write. */
const LAST_USED_FLUSH_MS = 2_000;

export interface NewToken {
  description: string;
  namePrefix: string | undefined;
  admin: boolean;
}

export class Organizations {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #bySlug = new Map<string, OrganizationRecord>();
  readonly #byId = new Map<string, OrganizationRecord>();
  readonly #lastUsed = new Map<string, number>();
  #unwritten = new Map<string, number>();
  #flushWait: AbortController | undefined;

  constructor(options: { database: Database; clock: Clock; logger: Logger }) {
    this.#database = options.database;
    this.#clock = options.clock;
    this.#logger = options.logger;
    for (const organization of loadOrganizations(this.#database)) this.#hold(organization);
  }

  /** By slug. */
  list(): OrganizationRecord[] {
    return [...this.#bySlug.values()].sort((a, b) => (a.slug < b.slug ? -1 : 1));
  }

  /** Throws `organization_not_found`. */
  get(slug: string): OrganizationRecord {
    const organization = this.#bySlug.get(slug);
    if (!organization) throw new ApiError("organization_not_found", "there is no organization of that slug");
    return organization;
  }

  /** Slug of an organization that exists. */
  slugOf(organizationId: string): string {
    const organization = this.#byId.get(organizationId);
    if (!organization) throw new ApiError("organization_not_found", "there is no organization of that id");
    return organization.slug;
  }

  /** Throws `organization_slug_taken`. The slug's form was checked before. */
  create(slug: string, name: string): OrganizationRecord {
    const organization = { id: newId(ORGANIZATION_ID_LENGTH), slug, name, createdAtMs: this.#clock.nowMs() };
    if (!insertOrganization(this.#database, organization))
      throw new ApiError("organization_slug_taken", `the slug ${slug} is taken`, { details: { field: "slug" } });
    this.#hold(organization);
    return organization;
  }

  /** Returns the record and the token's text, which cannot be had again. */
  createToken(organization: OrganizationRecord, request: NewToken): { record: TokenRecord; text: string } {
    const secret = newSecret();
    const record: TokenRecord = {
      id: newId(TOKEN_ID_LENGTH),
      organizationId: organization.id,
      description: request.description,
      secretHash: hashSecret(secret),
      namePrefix: request.namePrefix,
      admin: request.admin,
      createdAtMs: this.#clock.nowMs(),
      lastUsedAtMs: undefined,
      revokedAtMs: undefined,
    };
    insertToken(this.#database, record);
    return {
      record,
      text: formatToken({ organizationSlug: organization.slug, organizationId: organization.id, tokenId: record.id, secret }),
    };
  }

  listTokens(organization: OrganizationRecord): TokenRecord[] {
    return listTokens(this.#database, organization.id).map((token) => ({
      ...token,
      lastUsedAtMs: this.#lastUsed.get(token.id) ?? token.lastUsedAtMs,
    }));
  }

  /** Throws `token_not_found`. */
  revokeToken(organization: OrganizationRecord, tokenId: string): void {
    const found = revokeToken(this.#database, { organizationId: organization.id, id: tokenId }, this.#clock.nowMs());
    if (!found) throw new ApiError("token_not_found", `the organization ${organization.slug} has no token of that id`);
  }

  /** Who a token's text stands for. Throws `unauthorized`, `token_revoked`. */
  authenticate(text: string): Caller {
    const parts = parseToken(text);
    const token = parts && findToken(this.#database, parts.tokenId);
    const organization = token && this.#byId.get(token.organizationId);
    const fits = parts && token && organization?.id === parts.organizationId && secretMatches(parts.secret, token.secretHash);
    if (!fits) throw new ApiError("unauthorized", "the token is not one of this server");
    if (token.revokedAtMs !== undefined) throw new ApiError("token_revoked", "the token was revoked");
    this.#used(token);
    return {
      organizationId: organization.id,
      organizationSlug: organization.slug,
      tokenId: token.id,
      admin: token.admin,
      namePrefix: token.namePrefix,
    };
  }

  /** Writes what is not written yet. */
  close(): void {
    this.#flushWait?.abort();
    this.#flush();
  }

  #used(token: TokenRecord): void {
    const nowMs = this.#clock.nowMs();
    const lastMs = this.#lastUsed.get(token.id) ?? token.lastUsedAtMs ?? 0;
    if (nowMs - lastMs < LAST_USED_STEP_MS) return;
    this.#lastUsed.set(token.id, nowMs);
    this.#unwritten.set(token.id, nowMs);
    if (!this.#flushWait) void this.#flushLater().catch(ignore("closed, which flushes too"));
  }

  async #flushLater(): Promise<void> {
    this.#flushWait = new AbortController();
    await this.#clock.sleep(LAST_USED_FLUSH_MS, { signal: this.#flushWait.signal });
    this.#flushWait = undefined;
    this.#flush();
  }

  #flush(): void {
    if (this.#unwritten.size === 0) return;
    try {
      updateLastUsed(this.#database, this.#unwritten);
    } catch (error) {
      // A full disk must not end the daemon over a time of use; the next use is written again.
      this.#logger.warn({ event: "token.last_used", err: error }, "times of use were not written");
    }
    this.#unwritten = new Map();
  }

  #hold(organization: OrganizationRecord): void {
    this.#bySlug.set(organization.slug, organization);
    this.#byId.set(organization.id, organization);
  }
}
