import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Random } from "./random.ts";
import { UnsyncedFiles } from "./unsynced-files.ts";
import { UnsyncedRows } from "./unsynced-rows.ts";

let home: string;
beforeEach(async () => {
  home = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-unsynced-"));
});
afterEach(() => fs.rm(home, { recursive: true }));

describe("files at a power cut", () => {
  /** What is found after the cut, over many seeds, by content; `-` for nothing. */
  const outcomes = async (work: (files: UnsyncedFiles, root: string) => Promise<void>, name: string): Promise<string[]> => {
    const found = new Set<string>();
    for (let seed = 0; seed < 60; seed += 1) {
      const root = await fs.mkdtemp(path.join(home, "root-"));
      await fs.writeFile(path.join(root, "old"), "old");
      const files = new UnsyncedFiles(root, `${root}.trash`);
      await work(files, root);
      files.cut(new Random(seed));
      found.add(await fs.readFile(path.join(root, name), "utf8").catch(() => "-"));
    }
    return [...found].sort();
  };
  const write = (files: UnsyncedFiles, file: string, text: string) => files.made(file, () => fs.writeFile(file, text));

  test("a file that was never flushed may be gone, empty, torn or whole; flushed it stays", async () => {
    const all = await outcomes((files, root) => write(files, path.join(root, "a"), "abcd"), "a");
    expect(all).toEqual(["", "\0\0\0\0", "-", "ab", "abcd"]);
    const flushed = await outcomes(async (files, root) => {
      await write(files, path.join(root, "a"), "abcd");
      files.synced(path.join(root, "a"));
    }, "a");
    expect(flushed).toEqual(["abcd"]);
  });

  test("a rename without a flush may give an empty file; with both flushes it is the new one", async () => {
    const replace = async (files: UnsyncedFiles, root: string, isFlushed: boolean): Promise<void> => {
      const [temp, target] = [path.join(root, "temp"), path.join(root, "old")];
      await write(files, temp, "new!");
      if (isFlushed) files.synced(temp);
      await files.renamed(temp, target, () => fs.rename(temp, target));
    };
    expect(await outcomes((files, root) => replace(files, root, false), "old")).toEqual(["", "\0\0\0\0", "ne", "new!", "old"]);
    expect(await outcomes((files, root) => replace(files, root, true), "old")).toEqual(["new!", "old"]);
    const durable = async (files: UnsyncedFiles, root: string): Promise<void> => {
      await replace(files, root, true);
      files.synced(root);
    };
    expect(await outcomes(durable, "old")).toEqual(["new!"]);
  });

  test("what was removed may be back, until its directory is flushed", async () => {
    const remove = (files: UnsyncedFiles, root: string) =>
      files.removed(path.join(root, "old"), { recursive: true }, () => fs.rm(path.join(root, "old")));
    expect(await outcomes(remove, "old")).toEqual(["-", "old"]);
    const durable = async (files: UnsyncedFiles, root: string): Promise<void> => {
      await remove(files, root);
      files.synced(root);
    };
    expect(await outcomes(durable, "old")).toEqual(["-"]);
  });
});

describe("rows at a power cut", () => {
  test("those of transactions that were not flushed go, those flushed later keep the ones before", () => {
    const file = path.join(home, "rows.db");
    const open = (): DatabaseSync => {
      const database = new DatabaseSync(file);
      database.exec("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t (n)");
      return database;
    };
    const live = (work: (insert: (n: number) => void, rows: UnsyncedRows) => void): unknown[] => {
      const database = open();
      const rows = new UnsyncedRows(file);
      work((n) => void database.prepare("INSERT INTO t VALUES (?)").run(n), rows);
      const lose = rows.cut();
      database.close();
      lose();
      const after = open();
      const left = after
        .prepare("SELECT n FROM t ORDER BY n")
        .all()
        .map(({ n }) => n);
      after.close();
      return left;
    };
    const lost = live((insert, rows) => {
      insert(1);
      rows.flushed();
      rows.unflushed();
      insert(2);
    });
    expect(lost).toEqual([1]);
    const kept = live((insert, rows) => {
      rows.unflushed();
      insert(3);
      insert(4);
      rows.flushed();
    });
    expect(kept).toEqual([1, 3, 4]);
  });
});
