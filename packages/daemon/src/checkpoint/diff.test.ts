import type { FileEntry } from "@sprited/protocol/guest";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { differences, everyFile } from "./diff.ts";

const entry = (path: string, changes: Partial<FileEntry> = {}): FileEntry => ({
  path,
  type: "file",
  size: 1,
  mode: 0o644,
  mtime_ms: 0,
  uid: 0,
  gid: 0,
  allocated: 0,
  etag: `${path}-1`,
  target: null,
  ...changes,
});

async function* stream<T>(items: readonly T[]): AsyncGenerator<T, void, void> {
  yield* items;
}

describe("comparing checkpoints", () => {
  it("[CKPT-51] says what was added, removed and changed, by path", async () => {
    const before = [entry("/a"), entry("/b", { size: 10 }), entry("/d", { type: "directory" }), entry("/gone")];
    const after = [
      entry("/new", { size: 5 }),
      entry("/a"),
      entry("/b", { size: 20, etag: "other" }),
      entry("/d", { type: "directory", etag: "later" }),
    ];
    expect(await differences(stream(before), stream(after))).toEqual([
      { kind: "changed", path: "/b", type: "file", sizeBefore: 10, sizeAfter: 20 },
      { kind: "removed", path: "/gone", type: "file", sizeBefore: 1, sizeAfter: undefined },
      { kind: "added", path: "/new", type: "file", sizeBefore: undefined, sizeAfter: 5 },
    ]);
  });

  it("[CKPT-51] another owner or mode is a change; comparing backwards turns added and removed round", async () => {
    const files = fc.uniqueArray(
      fc.record({ path: fc.constantFrom("/1", "/2", "/3", "/4"), etag: fc.constantFrom("x", "y"), mode: fc.constantFrom(0o644, 0o755) }),
      {
        selector: (one) => one.path,
      },
    );
    await fc.assert(
      fc.asyncProperty(files, files, async (one, two) => {
        const [before, after] = [one, two].map((side) => side.map(({ path, ...rest }) => entry(path, rest)));
        const forward = await differences(stream(before ?? []), stream(after ?? []));
        const backward = await differences(stream(after ?? []), stream(before ?? []));
        const turned = { added: "removed", removed: "added", changed: "changed" } as const;
        expect(backward.map(({ path, kind }) => [path, turned[kind]])).toEqual(forward.map(({ path, kind }) => [path, kind]));
        expect(await differences(stream(before ?? []), stream(before ?? []))).toEqual([]);
      }),
    );
  });

  it("[CKPT-51] leaves out what a machine mounts over the disk", async () => {
    const asked: string[] = [];
    const tree: Record<string, FileEntry[]> = {
      "/": [
        entry("/proc", { type: "directory" }),
        entry("/.sprite", { type: "directory" }),
        entry("/etc", { type: "directory" }),
        entry("/file"),
      ],
      "/etc": [entry("/etc/hosts")],
    };
    const paths: string[] = [];
    const list = async (path: string) => {
      asked.push(path);
      return stream([tree[path] ?? []]);
    };
    for await (const { path } of everyFile(list)) paths.push(path);
    expect([asked, paths]).toEqual([
      ["/", "/etc"],
      ["/etc", "/etc/hosts", "/file"],
    ]);
  });
});
