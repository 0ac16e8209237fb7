import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { isOwnerAlive, isTempName, mountBelow, removeTree, tempBeside, tempOwner, writeFileAtomic } from "./atomic.ts";
import { homeLayout } from "./home.ts";
import { findSweep, planSweep, type References, sweepUnfinished } from "./sweep.ts";

const layout = homeLayout("/home-of-tests");
const systems = path.join(layout.runtime, "system");
const digest = (letter: string): string => letter.repeat(64);
const nothing: References = { sprites: new Set(), bootSnapshots: new Set(), systems: new Set() };

describe("planSweep", () => {
  it("[DISK-8] takes unfinished work of dead processes, leaves that of living ones", () => {
    const entries = [
      { directory: layout.images, name: ".default.making-41-00000000-0a0b0c0d" },
      { directory: layout.images, name: ".default.making-42-00000000-0a0b0c0d" },
    ];
    const items = planSweep({ layout, entries, references: nothing, currentSystem: undefined, isAlive: ({ pid }) => pid === 42 });
    expect(items).toEqual([{ path: path.join(layout.images, ".default.making-41-00000000-0a0b0c0d"), reason: "unfinished" }]);
  });

  it("[DISK-8] takes only what nothing refers to, and never the system image in use", () => {
    const entries = [
      { directory: layout.sprites, name: "s1" },
      { directory: layout.sprites, name: "s2" },
      { directory: layout.bootSnapshots, name: "old" },
      { directory: systems, name: "current" },
      { directory: systems, name: digest("a") },
      { directory: systems, name: digest("b") },
      { directory: systems, name: digest("c") },
      { directory: layout.images, name: digest("d") },
      { directory: layout.root, name: "sprited.db" },
    ];
    const references = { ...nothing, sprites: new Set(["s1"]), systems: new Set([digest("b")]) };
    const items = planSweep({ layout, entries, references, currentSystem: digest("a"), isAlive: () => false });
    expect(items.map((item) => path.relative(layout.root, item.path))).toEqual([
      "pool/sprites/s2",
      "pool/boot/old",
      `runtime/system/${digest("c")}`,
    ]);
    expect(items.every((item) => item.reason === "unreferenced")).toBe(true);
    expect(
      planSweep({ layout, entries, references: { ...references, images: new Set() }, currentSystem: digest("a"), isAlive: () => false }),
    ).toHaveLength(4);
  });

  it("[DISK-8] never names what lies outside the directories it knows", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), (name) => {
        fc.pre(!isTempName(name));
        expect(
          planSweep({
            layout,
            entries: [{ directory: layout.root, name }],
            references: nothing,
            currentSystem: undefined,
            isAlive: () => false,
          }),
        ).toEqual([]);
      }),
    );
  });
});

describe("temporary names", () => {
  it("carry their owner and are told from others", () => {
    const temp = tempBeside("/a/image.raw");
    expect(path.dirname(temp)).toBe("/a");
    expect(isTempName(path.basename(temp))).toBe(true);
    const owner = tempOwner(path.basename(temp))!;
    expect(owner.pid).toBe(process.pid);
    expect(isOwnerAlive(owner)).toBe(true);
    expect(isTempName("image.raw")).toBe(false);
    expect(tempOwner("image.raw")).toBeUndefined();
  });

  it("[DISK-8] an earlier run with this process id is dead, another living process is alive", () => {
    expect(isOwnerAlive({ pid: process.pid, run: "ffffffff" })).toBe(false);
    expect(isOwnerAlive({ pid: process.ppid, run: "ffffffff" })).toBe(true);
    expect(isOwnerAlive({ pid: 999_999_999, run: "ffffffff" })).toBe(false);
  });
});

describe("mountBelow", () => {
  it("[DISK-8] finds what removing a directory would go on in", () => {
    const text = "22 1 0:21 / /proc rw - proc proc rw\n96 29 7:0 / /h/a\\040b/tree/sys rw - sysfs sys ro\n";
    expect(mountBelow(text, "/h/a b")).toBe("/h/a b/tree/sys");
    expect(mountBelow(text, "/h/a b/tree/sys")).toBe("/h/a b/tree/sys");
    expect(mountBelow(text, "/h/a")).toBeUndefined();
    expect(mountBelow(text, "/h/a b/tree/s")).toBeUndefined();
  });
});

describe("in a real directory", () => {
  let root = "";
  beforeEach(async () => {
    root = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-sweep-"));
  });
  afterEach(async () => {
    await fs.rm(root, { recursive: true });
  });

  it("[IMG-8] what a killed build left goes, whole images stay", async () => {
    const home = homeLayout(root);
    const whole = path.join(home.images, digest("e"));
    const killed = [
      path.join(home.cache, "build", ".minimal.making-999999999-00000000-00000000"),
      path.join(whole, ".image-9g.raw.making-999999999-00000000-00000000"),
    ];
    await fs.mkdir(path.join(killed[0]!, "tree/etc"), { recursive: true });
    await fs.mkdir(whole, { recursive: true });
    await fs.writeFile(killed[1]!, "half");
    await fs.writeFile(path.join(whole, "image.raw"), "whole");
    const own = tempBeside(path.join(whole, "image-9g.raw"));
    await fs.writeFile(own, "at work");
    expect((await findSweep(home, nothing)).map((item) => item.path).sort()).toEqual([...killed].sort());
    await sweepUnfinished(home);
    await fs.rm(own);
    expect(await fs.readdir(whole)).toEqual(["image.raw"]);
    expect(await findSweep(home, nothing)).toEqual([]);
  });

  it("a small file is replaced whole and leaves no temporary name", async () => {
    const file = path.join(root, "record.json");
    await writeFileAtomic(file, "one");
    await writeFileAtomic(file, "two");
    expect(await fs.readFile(file, "utf8")).toBe("two");
    expect(await fs.readdir(root)).toEqual(["record.json"]);
  });

  it("refuses to remove anything that is not inside", async () => {
    for (const target of [root, path.dirname(root), "relative", path.join(root, "..", "other"), "/"]) {
      await expect(removeTree(target, root)).rejects.toThrow("refusing");
    }
  });
});
