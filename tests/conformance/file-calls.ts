/** Every method of the official client's file system, unmodified, and what the wire promises beside it. */
import { randomBytes } from "node:crypto";
import type { Sprite } from "@fly/sprites";
import { waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sdkOf, type Target, uniqueName } from "../kit/target.ts";
import { sha256 } from "./exec-calls.ts";

export function fileCalls(target: () => Target): void {
  let sprite: Sprite;
  let top: string;
  beforeAll(async () => {
    sprite = await sdkOf(target()).createSprite(uniqueName("files"));
    top = `/tmp/${uniqueName("files")}`;
    await sprite.execFile("mkdir", [top]);
  });
  afterAll(async () => {
    await sprite?.execFile("rm", ["-rf", top]);
    await sprite?.delete();
  });

  const files = () => sprite.filesystem(top);
  const codeOf = async (work: Promise<unknown>): Promise<unknown> =>
    await work.then(
      () => "no error",
      (error: { code?: unknown }) => error.code,
    );
  const shell = async (script: string): Promise<string> => (await sprite.execFile("sh", ["-c", script], { cwd: top })).stdout as string;

  describe("reading and writing", () => {
    test("[FS-1] text and bytes come back as they were written; commands see them", async () => {
      await files().writeFile("text.txt", "hällo\n");
      expect(await files().readFile("text.txt", "utf8")).toBe("hällo\n");
      expect(await shell("cat text.txt")).toBe("hällo\n");
      const bytes = randomBytes(3_000_001);
      await files().writeFile("bytes", bytes);
      expect(sha256((await files().readFile("bytes", null)) as Buffer)).toBe(sha256(bytes));
      expect(await shell("sha256sum < bytes")).toContain(sha256(bytes));
    });

    test("[FS-3] [FS-4] a new file has mode 0644 or the one asked for; an existing one keeps its own", async () => {
      await files().writeFile("plain", "1");
      await files().writeFile("tool", "#!/bin/sh\n", { mode: 0o755 });
      expect(await shell("stat -c %a plain tool")).toBe("644\n755\n");
      await files().writeFile("tool", "#!/bin/sh\necho 2\n");
      expect(await shell("stat -c %a tool; ./tool")).toBe("755\n2\n");
    });

    test("[FS-5] missing directories are made", async () => {
      await files().writeFile("a/b/c.txt", "deep");
      expect(await shell("cat a/b/c.txt")).toBe("deep");
    });

    test("empty files, JSON and appending", async () => {
      await files().writeFile("empty", "");
      expect(await files().readFile("empty", "utf8")).toBe("");
      await files().writeJSON("data.json", { a: [1, 2] }, { spaces: 2 });
      expect(await files().readJSON("data.json")).toEqual({ a: [1, 2] });
      await files().appendFile("log", "one\n");
      await files().appendFile("log", "two\n");
      expect(await shell("cat log")).toBe("one\ntwo\n");
    });

    test("names with anything in them", async () => {
      const name = "a b+c%2F&=?#'\"\\ ä😀\n.txt";
      await files().writeFile(name, "odd");
      expect(await files().readFile(name, "utf8")).toBe("odd");
      expect(await files().readdir(".")).toContain(name);
      await files().rm(name);
    });

    test("files of the kernel that say they are empty are read", async () => {
      expect(await sprite.filesystem().readFile("/proc/version", "utf8")).toMatch(/^Linux/);
    });
  });

  describe("directories", () => {
    test("mkdir makes an empty directory, also with parents and a mode", async () => {
      await files().mkdir("made");
      await files().mkdir("made/x/y", { recursive: true, mode: 0o700 });
      expect(await files().readdir("made/x/y")).toEqual([]);
      expect(await shell("stat -c %a made/x/y")).toBe("700\n");
    });

    test("[FS-7] readdir gives names, types, everything below, and what fits a pattern", async () => {
      await shell("mkdir -p tree/sub && touch tree/a.ts tree/b.js tree/sub/c.ts && ln -s a.ts tree/link");
      expect((await files().readdir("tree")).toSorted()).toEqual(["a.ts", "b.js", "link", "sub"]);
      const entries = await files().readdir("tree", { withFileTypes: true });
      expect(entries.find(({ name }) => name === "sub")?.isDirectory()).toBe(true);
      expect(entries.find(({ name }) => name === "link")?.isSymbolicLink()).toBe(true);
      expect((await files().readdir("tree", { recursive: true })).toSorted()).toEqual(["a.ts", "b.js", "c.ts", "link", "sub"]);
      expect((await files().readdir("tree", { recursive: true, pattern: "*.ts" })).toSorted()).toEqual(["a.ts", "c.ts"]);
    });

    test("[FS-2] stat of a file describes that file; exists tells", async () => {
      await shell("printf 12345 > sized && chmod 640 sized && touch -d @1700000000 sized");
      const stat = await files().stat("sized");
      expect([stat.size, stat.mode, stat.mtime.getTime(), stat.isFile(), stat.isDirectory()]).toEqual([
        5,
        0o640,
        1_700_000_000_000,
        true,
        false,
      ]);
      expect([await files().exists("sized"), await files().exists("nothing"), await files().exists("no/such")]).toEqual([
        true,
        false,
        false,
      ]);
    });
  });

  describe("changes", () => {
    test("[FS-8] rm: files, empty directories, full ones only with recursive", async () => {
      await shell("mkdir -p gone/deep && touch gone/deep/x one && mkdir bare");
      await files().rm("one");
      await files().rm("bare");
      expect(await codeOf(files().rm("gone"))).toBe("ENOTEMPTY");
      await files().rm("gone", { recursive: true });
      expect(await shell("ls -d gone one bare 2>/dev/null || true")).toBe("");
      expect(await codeOf(files().rm("gone"))).toBe("ENOENT");
      await files().rm("gone", { force: true });
    });

    test("rename and copy", async () => {
      await shell(
        "printf content > from && chmod 751 from && touch -d @1600000000 from && mkdir -p dir/in && ln -s x dir/in/link && printf y > dir/in/x",
      );
      await files().rename("from", "to");
      await files().copyFile("to", "copy");
      await files().copyFile("to", "kept", { preserveAttrs: true });
      expect(await shell("cat copy kept; stat -c %a copy; stat -c %Y kept")).toBe("contentcontent751\n1600000000\n");
      expect(await codeOf(files().copyFile("dir", "dir2"))).toBe("EISDIR");
      await files().copyFile("dir", "dir2", { recursive: true });
      expect(await shell("cat dir2/in/x; readlink dir2/in/link")).toBe("yx\n");
      expect(await codeOf(files().rename("missing", "x"))).toBe("ENOENT");
    });

    test("[FS-9] chmod and chown, with recursive", async () => {
      await shell("mkdir -p perm/in && touch perm/in/f");
      await files().chmod("perm/in/f", 0o600);
      expect(await shell("stat -c %a perm/in/f")).toBe("600\n");
      await files().chmod("perm", 0o711, { recursive: true });
      expect(await shell("stat -c %a perm perm/in perm/in/f")).toBe("711\n711\n711\n");
      await files().chown("perm", { uid: "root", gid: 0, recursive: true, asRoot: true });
      expect(await shell("stat -c %u:%g perm perm/in/f")).toBe("0:0\n0:0\n");
      expect(await codeOf(files().chown("perm", { uid: "nobody-of-that-name", asRoot: true }))).toBe("EINVAL");
      await files().rm("perm", { recursive: true, asRoot: true });
    });

    test("[FS-15] errors have the codes the client knows", async () => {
      await shell("mkdir -p e/d && printf x > e/f");
      expect(await codeOf(files().readFile("e/none"))).toBe("ENOENT");
      expect(await codeOf(files().readFile("e/d"))).toBe("EISDIR");
      expect(await codeOf(files().readFile("e/f/below"))).toBe("ENOTDIR");
      expect(await codeOf(files().writeFile("e/d", "x"))).toBe("EISDIR");
      const error = await files()
        .readFile("e/none")
        .catch((reason: unknown) => reason as { message: string; path: string });
      expect(error).toMatchObject({ message: expect.stringContaining("ENOENT: no such file or directory"), path: `${top}/e/none` });
    });
  });

  test("[FS-14] a watch tells what happens, also in directories made later", async () => {
    await shell("mkdir -p watched/sub");
    const watcher = await files().watch("watched", { recursive: true });
    const seen: string[] = [];
    watcher.on("event", (event: { event: string; path: string }) => seen.push(`${event.event} ${event.path.slice(top.length + 1)}`));
    await files().writeFile("watched/sub/f", "1");
    await shell(
      "echo more >> watched/sub/f; mv watched/sub/f watched/g; rm watched/g; mkdir watched/new; sleep 0.3; touch watched/new/h; chmod 600 watched/new/h",
    );
    const expected = ["create watched/sub/f", "write watched/sub/f", "rename watched/sub/f", "create watched/g", "remove watched/g"];
    const later = ["create watched/new", "create watched/new/h", "chmod watched/new/h"];
    await waitFor("events", { timeoutMs: 30_000 }, () => [...expected, ...later].every((one) => seen.includes(one)));
    expect(seen.indexOf("create watched/g")).toBeLessThan(seen.indexOf("remove watched/g"));
    watcher.close();
  });
}
