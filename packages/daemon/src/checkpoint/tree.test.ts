import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openDatabase, type CheckpointRow } from "../store/index.ts";
import { CheckpointRecords } from "../store/index.ts";
import { historyOf, lineOf, prunable } from "./tree.ts";
import { withSpriteRow } from "./testing/sprite-row.ts";

function row(position: number, changes: Partial<CheckpointRow> = {}): CheckpointRow {
  return {
    spriteId: "s",
    id: `v${position}`,
    position,
    comment: "",
    parentId: position === 0 ? undefined : `v${position - 1}`,
    isAuto: false,
    hasMemory: false,
    state: "complete",
    health: "",
    diskBytes: 0,
    memoryBytes: 0,
    createdAtMs: position,
    ...changes,
  };
}

describe("history", () => {
  it("[CKPT-6] leads from the parent to the root, nearest first", () => {
    const rows = [row(0), row(1), row(2), row(3, { parentId: "v1" })];
    expect(historyOf(rows, "v3")).toEqual(["v1", "v0"]);
    expect(lineOf(rows, "v2")).toEqual(["v2", "v1", "v0"]);
    expect(lineOf(rows, "v9")).toEqual([]);
  });

  it("ends whatever the chain says", () => {
    const circle = [row(0, { parentId: "v1" }), row(1)];
    expect(historyOf(circle, "v0")).toEqual(["v1", "v0"]);
    expect(historyOf([row(5)], "v5")).toEqual([]);
  });
});

describe("retention", () => {
  const auto = (position: number, changes: Partial<CheckpointRow> = {}): CheckpointRow =>
    row(position, { id: `auto-${position}`, isAuto: true, ...changes });

  it("[CKPT-21] takes the oldest automatic ones beyond the kept number, never current or needed ones", () => {
    const rows = [row(0), auto(1), auto(2), auto(3), auto(4), auto(5)];
    expect(prunable(rows, { keep: 2, current: "auto-2", isUsed: (id) => id === "auto-1" })).toEqual(["auto-3"]);
  });

  it("[CKPT-21] keeps the newest, and everything a user made", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ isAuto: fc.boolean(), creating: fc.boolean() }), { maxLength: 30 }),
        fc.nat(5),
        fc.nat(30),
        (made, keep, currentAt) => {
          const rows = made.map(({ isAuto, creating }, index) =>
            isAuto ? auto(index, { state: creating ? "creating" : "complete" }) : row(index),
          );
          const current = rows[currentAt]?.id;
          const gone = prunable(rows, { keep, current, isUsed: () => false });
          const left = rows.filter(({ id }) => !gone.includes(id));
          expect(left.filter((one) => !one.isAuto)).toEqual(rows.filter((one) => !one.isAuto));
          expect(gone).not.toContain(current);
          const newest = rows.filter((one) => one.isAuto && one.state !== "creating").at(-1);
          if (newest) expect(gone).not.toContain(newest.id);
          const kept = left.filter((one) => one.isAuto && one.state !== "creating" && one.id !== current);
          expect(kept.length).toBeLessThanOrEqual(Math.max(1, keep));
        },
      ),
    );
  });
});

describe("rows of the store", () => {
  it("[CKPT-2, CKPT-6, CKPT-20] any order of making, restoring and deleting leaves a forest without loose ends and no id twice", () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("make" as const), isAuto: fc.boolean() }),
      fc.record({ kind: fc.constant("restore" as const), at: fc.nat(20) }),
      fc.record({ kind: fc.constant("delete" as const), at: fc.nat(20) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        using database = openDatabase(":memory:");
        withSpriteRow(database, "s");
        const records = new CheckpointRecords(database);
        const used = new Set<string>();
        for (const one of steps) {
          const rows = records.list("s");
          const id = one.kind === "make" ? undefined : rows[one.at % Math.max(1, rows.length)]?.id;
          if (one.kind === "make") {
            const made = records.begin({ spriteId: "s", comment: "", isAuto: one.isAuto, createdAtMs: 0 });
            expect(used).not.toContain(made.id);
            used.add(made.id);
            expect(made.parentId).toBe(records.current("s"));
            records.acknowledge("s", made.id, { diskBytes: 1 });
            expect(records.current("s")).toBe(made.id);
          } else if (id !== undefined && one.kind === "delete") records.remove("s", id);
          else if (id !== undefined) {
            const restore = { spriteId: "s", targetId: id, previousId: id, phase: "begun", withMemory: false, startedAtMs: 0 } as const;
            records.beginRestore(restore);
            records.finishRestore(restore);
            expect(records.current("s")).toBe(id);
          }
          const after = records.list("s");
          const ids = new Set(after.map((each) => each.id));
          for (const each of after) {
            if (each.parentId !== undefined) expect(ids).toContain(each.parentId);
            expect(historyOf(after, each.id)).not.toContain(each.id);
          }
          const current = records.current("s");
          if (current !== undefined) expect(ids).toContain(current);
        }
      }),
      { numRuns: 60 },
    );
  });
});
