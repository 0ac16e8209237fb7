import { describe, expect, test } from "vitest";
import { insertOrganization, openDatabase } from "../store/index.ts";
import { type QuotaLimits, Quotas } from "./quotas.ts";

const LIMITS: QuotaLimits = { sprites: 2, running: undefined, diskGb: 10, checkpoints: 0 };

function testbed() {
  const database = openDatabase(":memory:");
  insertOrganization(database, { id: "o1", slug: "local", name: "local", createdAtMs: 0 });
  return { database, quotas: new Quotas(database) };
}

describe("quotas", () => {
  test("without a quota everything goes", () => {
    const { quotas } = testbed();
    expect(() => quotas.require("o1", "sprites", 1_000_000)).not.toThrow();
  });

  test("the last one within the limit goes, the next is refused with the limit and the count", () => {
    const { quotas } = testbed();
    quotas.set("o1", LIMITS);
    expect(() => quotas.require("o1", "sprites", 1)).not.toThrow();
    expect(() => quotas.require("o1", "sprites", 2)).toThrow(
      expect.objectContaining({ code: "sprite_limit_exceeded", details: { limit: 2, current_count: 2 } }),
    );
    expect(() => quotas.require("o1", "sprites", 0, 3)).toThrow(expect.objectContaining({ code: "sprite_limit_exceeded" }));
    expect(() => quotas.require("o1", "checkpoints", 0)).toThrow(expect.objectContaining({ code: "checkpoint_limit_exceeded" }));
    expect(() => quotas.require("o1", "running", 5)).not.toThrow();
    expect(() => quotas.require("o1", "diskGb", 9.5, 0.6)).toThrow(expect.objectContaining({ code: "disk_limit_exceeded" }));
  });

  test("limits survive a restart and can be taken away again", () => {
    const { database, quotas } = testbed();
    quotas.set("o1", LIMITS);
    const again = new Quotas(database);
    expect(again.of("o1")).toEqual(LIMITS);
    again.set("o1", { ...LIMITS, sprites: undefined });
    expect(new Quotas(database).of("o1").sprites).toBeUndefined();
  });
});
