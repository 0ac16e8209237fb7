/** Sprites in memory by id and by (organization, name), with names in order for paging. */
import { ApiError } from "@sprited/protocol/errors";
import type { Entry } from "./registry.ts";
import { placeOf } from "./sprite.ts";

interface Organization {
  byName: Map<string, Entry>;
  /** Names being created; taken, but not visible yet. */
  reserved: Set<string>;
  /** Names in code-point order; undefined when stale. */
  sorted: string[] | undefined;
}

export interface Reservation extends AsyncDisposable {
  /** The sprite exists now; the name stays taken by it. */
  keep(): void;
}

export class SpriteIndex {
  readonly #byId = new Map<string, Entry>();
  readonly #organizations = new Map<string, Organization>();

  add(entry: Entry): void {
    const organization = this.#organization(placeOf(entry.sprite));
    this.#byId.set(entry.sprite.id, entry);
    organization.byName.set(entry.sprite.name, entry);
    organization.sorted = undefined;
  }

  remove(entry: Entry): void {
    const organization = this.#organization(placeOf(entry.sprite));
    this.#byId.delete(entry.sprite.id);
    if (organization.byName.get(entry.sprite.name) === entry) organization.byName.delete(entry.sprite.name);
    organization.sorted = undefined;
  }

  /** Takes a name before its sprite exists. Throws `sprite_name_taken`. */
  reserve(organizationId: string, name: string): Reservation {
    this.requireFree(organizationId, name);
    const organization = this.#organization(organizationId);
    organization.reserved.add(name);
    const release = (): void => {
      organization.reserved.delete(name);
    };
    return { keep: release, [Symbol.asyncDispose]: async () => release() };
  }

  /** Throws `sprite_name_taken` when a sprite has the name or is being made under it. */
  requireFree(organizationId: string, name: string): void {
    const organization = this.#organization(organizationId);
    if (!organization.byName.has(name) && !organization.reserved.has(name)) return;
    throw new ApiError("sprite_name_taken", `a sprite named ${name} exists already`, { details: { field: "name" } });
  }

  byId(id: string): Entry | undefined {
    return this.#byId.get(id);
  }

  /** Undefined for missing sprites, those whose creation or batch was not acknowledged and those whose deletion was. */
  byName(organizationId: string, name: string): Entry | undefined {
    const entry = this.#organizations.get(organizationId)?.byName.get(name);
    return entry && isVisible(entry) ? entry : undefined;
  }

  ofOrganization(organizationId: string): Entry[] {
    return [...(this.#organizations.get(organizationId)?.byName.values() ?? [])].filter(isVisible);
  }

  /** One page by name; the continuation token is the last name of the page before, base64url. */
  page(
    organizationId: string,
    query: { prefix?: string | undefined; continuationToken?: string | undefined; maxResults: number },
  ): { entries: Entry[]; continuationToken: string | undefined } {
    const organization = this.#organization(organizationId);
    organization.sorted ??= [...organization.byName.keys()].sort();
    const names = organization.sorted;
    const prefix = query.prefix ?? "";
    const after = query.continuationToken === undefined ? undefined : Buffer.from(query.continuationToken, "base64url").toString("utf8");
    const begin = after === undefined || after < prefix ? lowerBound(names, prefix) : lowerBound(names, `${after}\0`);
    const entries: Entry[] = [];
    for (let at = begin; at < names.length; at += 1) {
      const name = names[at] as string;
      if (!name.startsWith(prefix)) break;
      const entry = organization.byName.get(name);
      if (!entry || !isVisible(entry)) continue;
      if (entries.length === query.maxResults) {
        const last = entries[entries.length - 1] as Entry;
        return { entries, continuationToken: Buffer.from(last.sprite.name).toString("base64url") };
      }
      entries.push(entry);
    }
    return { entries, continuationToken: undefined };
  }

  all(): Entry[] {
    return [...this.#byId.values()];
  }

  ids(): string[] {
    return [...this.#byId.keys()];
  }

  #organization(id: string): Organization {
    let organization = this.#organizations.get(id);
    if (!organization) {
      organization = { byName: new Map(), reserved: new Set(), sorted: undefined };
      this.#organizations.set(id, organization);
    }
    return organization;
  }
}

function isVisible(entry: Entry): boolean {
  if (entry.batchId !== undefined) return false;
  const { kind } = entry.driver.state;
  return kind !== "creating" && kind !== "deleting";
}

/** Index of the first name ≥ `value`. */
function lowerBound(names: readonly string[], value: string): number {
  let low = 0;
  let high = names.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((names[middle] as string) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
