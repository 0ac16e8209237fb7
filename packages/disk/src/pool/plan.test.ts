import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { findMount, formatBytes, planPool, type PoolFacts, usableBytes } from "./plan.ts";

const GIB = 1024 ** 3;
const bare: PoolFacts = { isRoot: true, poolFileBytes: undefined, mounted: "none", reflinks: false, hasData: false, poolSizeGb: 100 };

describe("planPool", () => {
  it("[DISK-1] takes the home itself where it shares blocks", () => {
    expect(planPool({ ...bare, reflinks: true })).toMatchObject({ kind: "use", cloneKind: "reflink" });
    expect(planPool({ ...bare, reflinks: true, isRoot: false })).toMatchObject({ kind: "use", cloneKind: "reflink" });
  });

  it("[DISK-1] makes a pool file with root, and says what copying costs without", () => {
    expect(planPool(bare)).toMatchObject({ kind: "create", bytes: 100 * GIB });
    const copies = planPool({ ...bare, isRoot: false });
    expect(copies).toMatchObject({ kind: "use", cloneKind: "copy" });
    expect(copies.reason).toMatch(/needs root.*sparse copy/);
  });

  it("[DISK-1] an existing pool file comes before everything else", () => {
    expect(planPool({ ...bare, poolFileBytes: 100 * GIB, reflinks: true })).toMatchObject({ kind: "mount" });
    expect(planPool({ ...bare, poolFileBytes: 100 * GIB, mounted: "pool-file" })).toMatchObject({ kind: "use", cloneKind: "reflink" });
    expect(planPool({ ...bare, poolFileBytes: 100 * GIB, isRoot: false }).kind).toBe("refuse");
    expect(planPool({ ...bare, poolFileBytes: 100 * GIB, isRoot: false, mounted: "pool-file" })).toMatchObject({
      kind: "use",
      cloneKind: "reflink",
    });
  });

  it("[DISK-2] never mounts over data or over a foreign mount", () => {
    fc.assert(
      fc.property(
        fc.record({
          isRoot: fc.boolean(),
          poolFileBytes: fc.option(fc.integer({ min: GIB, max: 500 * GIB }), { nil: undefined }),
          mounted: fc.constantFrom("none" as const, "pool-file" as const, "other" as const),
          reflinks: fc.boolean(),
          hasData: fc.boolean(),
          poolSizeGb: fc.integer({ min: 1, max: 1000 }),
        }),
        (facts) => {
          const { kind } = planPool(facts);
          if (kind !== "mount" && kind !== "create") return;
          expect(facts).toMatchObject({ hasData: false, mounted: "none", isRoot: true });
        },
      ),
    );
  });

  it("[DISK-4] grows to the setting, never shrinks", () => {
    const mounted = { ...bare, mounted: "pool-file" as const };
    expect(planPool({ ...mounted, poolFileBytes: 60 * GIB })).toMatchObject({ growToBytes: 100 * GIB });
    expect(planPool({ ...mounted, poolFileBytes: 100 * GIB })).not.toHaveProperty("growToBytes");
    expect(planPool({ ...mounted, poolFileBytes: 200 * GIB })).not.toHaveProperty("growToBytes");
    expect(planPool({ ...mounted, poolFileBytes: 60 * GIB, isRoot: false })).not.toHaveProperty("growToBytes");
  });
});

describe("findMount", () => {
  const text = [
    "22 1 0:21 / /proc rw,nosuid - proc proc rw",
    "96 29 7:0 / /srv/a\\040b/pool rw,nosuid,nodev - xfs /dev/loop3 rw,inode64",
    "97 96 7:1 / /srv/a\\040b/pool rw shared:5 master:1 - xfs /dev/loop4 rw",
  ].join("\n");

  it("[DISK-3] finds the topmost mount, spaces and optional fields included", () => {
    expect(findMount(text, "/srv/a b/pool")).toEqual({ mountPoint: "/srv/a b/pool", type: "xfs", source: "/dev/loop4" });
    expect(findMount(text, "/srv/a b")).toBeUndefined();
  });
});

describe("usableBytes", () => {
  it("[DISK-6] is the smaller of the pool and what lies below it, less the reserve", () => {
    expect(usableBytes({ pool: 50, underneath: 20, floor: 5 })).toBe(15);
    expect(usableBytes({ pool: 50, underneath: 90, floor: 5 })).toBe(45);
    expect(usableBytes({ pool: 50, underneath: undefined, floor: 5 })).toBe(45);
    expect(usableBytes({ pool: 3, underneath: 90, floor: 5 })).toBe(0);
  });

  it("is told to people in GB or MB", () => {
    expect(formatBytes(1.5 * GIB)).toBe("1.5 GB");
    expect(formatBytes(1)).toBe("1 MB");
  });
});
