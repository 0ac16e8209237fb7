/** A sprite's record in a store, for tests that need one to refer to. */
import { type Database, insertOrganization, spriteRecords } from "../../store/index.ts";
import type { Sprite } from "../../sprite/index.ts";

export function spriteNamed(id: string): Sprite {
  return {
    id,
    organizationId: "org",
    name: id,
    config: { cpus: 1, memoryMib: 256, storageGb: 1 },
    environment: {},
    labels: [],
    urlSettings: { auth: "sprite", privateAccess: undefined },
    imageName: "minimal",
    imageDigest: "0",
    createdAtMs: 1,
    updatedAtMs: 1,
    lastRunningAtMs: undefined,
  };
}

/** Inserts the organization and a cold sprite. */
export function withSpriteRow(database: Database, id: string): Sprite {
  const sprite = spriteNamed(id);
  insertOrganization(database, { id: "org", slug: "org", name: "org", createdAtMs: 1 });
  spriteRecords<{ kind: string }>(database).insertSprite(sprite, { kind: "cold" });
  return sprite;
}
