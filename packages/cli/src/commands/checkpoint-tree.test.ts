import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readCheckpoint, type CheckpointInfo } from "../api/checkpoints.ts";
import { bytes } from "../output/bytes.ts";
import { checkpointTable, treeLines } from "./checkpoint-tree.ts";

const point = (id: string, source = "", changes: Record<string, unknown> = {}): CheckpointInfo =>
  readCheckpoint({ id, source_id: source, state: "complete", create_time: "2026-01-01T00:00:00Z", ...changes });

describe("the tree of save points", () => {
  test("[CKPT-40] what came from what, older first, the present state last in its branch", () => {
    const list = [point("auto-1", "v1", { is_auto: true }), point("v2", "v0"), point("v1", "v0"), point("v0"), point("Current", "v2")];
    expect(treeLines(list).map(({ label }) => label)).toEqual(["v0", "├─ v1", "│  └─ auto-1", "└─ v2", "   └─ ● now"]);
  });

  test("[CKPT-40] every checkpoint once, whatever the origins say", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(9), { maxLength: 10 }), (sources) => {
        const list = sources.map((source, index) => point(`v${index}`, `v${source}`));
        const ids = treeLines(list).map(({ checkpoint }) => checkpoint.id);
        expect([...ids].sort()).toEqual(list.map(({ id }) => id).sort());
      }),
    );
  });

  test("[CKPT-40] a table with sizes and states", () => {
    const list = [
      point("v1", "v0", { state: "failed", health: "mount_failed", disk_bytes: 3 * 1024 ** 3, comment: "after\u001b[31m" }),
      point("v0", "", { disk_bytes: 812 * 1024, memory: true, memory_bytes: 200 * 1024 ** 2 }),
    ];
    expect(checkpointTable(list, Date.parse("2026-01-02T00:00:00Z"))).toEqual([
      "CHECKPOINT  STATE                  AGE  DISK     MEMORY   COMMENT",
      "v0          complete               1d   812 KiB  200 MiB",
      "└─ v1       failed (mount_failed)  1d   3.0 GiB           after?[31m",
    ]);
  });

  test.each([
    [0, "0 B"],
    [999, "999 B"],
    [1024, "1.0 KiB"],
    [1.5 * 1024 ** 4, "1.5 TiB"],
  ])("%d bytes are %s", (count, text) => expect(bytes(count)).toBe(text));
});
