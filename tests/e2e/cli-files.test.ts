/** `sprite file` as a process, against the whole daemon on simulated machines, over a wire that can be cut. */
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";
import { sdkOf } from "../kit/target.ts";
import { CliHome, collect } from "./cli-run.ts";
import { Wire } from "./cli-wire.ts";

let target: SimulatedTarget;
let home: CliHome;
let wire: Wire;
let remote: string;
let local: string;

beforeAll(async () => {
  target = await openSimulated();
  wire = await Wire.open(Number(new URL(target.baseUrl).port));
  home = await CliHome.make({ SPRITES_API_URL: `http://127.0.0.1:${wire.port}`, SPRITE_TOKEN: target.token });
  await sdkOf(target).createSprite("dev");
});
afterAll(async () => {
  wire.close();
  await home.remove();
  await target[Symbol.asyncDispose]();
});
beforeEach(() => {
  wire.cutEvery = Infinity;
  remote = fs.mkdtempSync(path.join(os.tmpdir(), "files-remote-"));
  local = fs.mkdtempSync(path.join(os.tmpdir(), "files-local-"));
  return () => {
    for (const directory of [remote, local]) fs.rmSync(directory, { recursive: true, force: true });
  };
});

const file = (args: readonly string[], options: Parameters<CliHome["run"]>[1] = {}) =>
  home.run(["file", args[0] ?? "", "-s", "dev", ...args.slice(1)], { cwd: local, ...options });
const hash = (name: string): string => createHash("sha256").update(fs.readFileSync(name)).digest("hex");

describe("one file", () => {
  test("[CLI-60] push and pull keep content and mode; a directory takes the name", async () => {
    fs.writeFileSync(path.join(local, "tool"), randomBytes(1_000_001), { mode: 0o755 });
    expect(await file(["push", "tool", remote])).toMatchObject({ code: 0, out: "", err: "" });
    expect([hash(path.join(remote, "tool")), fs.statSync(path.join(remote, "tool")).mode & 0o777]).toEqual([
      hash(path.join(local, "tool")),
      0o755,
    ]);
    expect(await file(["pull", `${remote}/tool`, "back"])).toMatchObject({ code: 0, err: "" });
    expect([hash(path.join(local, "back")), fs.statSync(path.join(local, "back")).mode & 0o777]).toEqual([
      hash(path.join(local, "tool")),
      0o755,
    ]);
  });

  test("[CLI-60] standard input and output take part with -", async () => {
    expect(await file(["push", "-", `${remote}/in`], { input: "from a pipe" })).toMatchObject({ code: 0 });
    expect(await file(["pull", `${remote}/in`, "-"])).toMatchObject({ code: 0, out: "from a pipe" });
  });

  test("[CLI-61] missing directories are made only with -p", async () => {
    fs.writeFileSync(path.join(local, "f"), "x");
    const refused = await file(["push", "f", `${remote}/a/b/f`]);
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining("no such file or directory")]);
    expect(await file(["push", "-p", "f", `${remote}/a/b/f`])).toMatchObject({ code: 0 });
    expect(fs.readFileSync(`${remote}/a/b/f`, "utf8")).toBe("x");
  });

  test("[CLI-61] what is wrong is said, and nothing is left behind", async () => {
    const missing = await file(["pull", `${remote}/none`, "here"]);
    expect([missing.code, missing.err]).toEqual([1, expect.stringContaining("no such file or directory")]);
    const directory = await file(["push", ".", `${remote}/x`]);
    expect([directory.code, directory.err]).toEqual([1, expect.stringContaining("push -r")]);
    expect([fs.readdirSync(local), fs.readdirSync(remote)]).toEqual([[], []]);
  });

  test("[CLI-62] a transfer that is cut again and again goes on at the right byte and ends with the same hash", async () => {
    const big = path.join(local, "big");
    fs.writeFileSync(big, randomBytes(24_000_000));
    wire.cutEvery = 7_000_000;
    const pushed = await file(["push", "big", `${remote}/big`]);
    expect(pushed).toMatchObject({ code: 0, err: expect.stringContaining("connection lost") });
    expect(hash(path.join(remote, "big"))).toBe(hash(big));
    const pulled = await file(["pull", `${remote}/big`, "again"]);
    expect(pulled).toMatchObject({ code: 0, err: expect.stringContaining("connection lost") });
    expect(hash(path.join(local, "again"))).toBe(hash(big));
    expect(wire.cuts).toBeGreaterThanOrEqual(4);
    expect([fs.readdirSync(remote), fs.readdirSync(local).toSorted()]).toEqual([["big"], ["again", "big"]]);
  });

  test("[CLI-63] files with holes keep them both ways", async () => {
    const sparse = path.join(local, "sparse");
    const handle = fs.openSync(sparse, "w");
    fs.writeSync(handle, "begin", 0);
    fs.writeSync(handle, "end", 64 * 1024 * 1024);
    fs.closeSync(handle);
    await file(["push", "sparse", `${remote}/sparse`]);
    await file(["pull", `${remote}/sparse`, "back"]);
    for (const name of [path.join(remote, "sparse"), path.join(local, "back")]) {
      expect(hash(name)).toBe(hash(sparse));
      expect(fs.statSync(name).blocks * 512).toBeLessThan(1024 * 1024);
    }
  });
});

describe("directories", () => {
  test("[CLI-64] push -r and pull -r keep modes, symlinks and times", async () => {
    await fc.assert(
      fc.asyncProperty(trees, async (tree) => {
        const source = fs.mkdtempSync(path.join(local, "t"));
        const there = path.join(remote, path.basename(source));
        plant(tree, source);
        expect(await file(["push", "-r", "-p", source, there])).toMatchObject({ code: 0, err: "" });
        expect(pictureOf(there)).toEqual(pictureOf(source));
        const back = path.join(local, "back", path.basename(source));
        expect(await file(["pull", "-r", "-p", there, back])).toMatchObject({ code: 0, err: "" });
        expect(pictureOf(back)).toEqual(pictureOf(source));
      }),
      { numRuns: 6 },
    );
  });

  test("[CLI-62] a cut tree is completed, without what has arrived already", async () => {
    const source = path.join(local, "many");
    fs.mkdirSync(source);
    for (let index = 0; index < 60; index += 1) fs.writeFileSync(path.join(source, `f${index}`), randomBytes(200_000));
    wire.cutEvery = 5_000_000;
    expect(await file(["push", "-r", "-p", "many", `${remote}/many`])).toMatchObject({
      code: 0,
      err: expect.stringContaining("connection lost"),
    });
    expect(pictureOf(`${remote}/many`)).toEqual(pictureOf(source));
  });

  test("[CLI-65] what cannot be transferred is named", async () => {
    fs.mkdirSync(`${remote}/d`);
    fs.writeFileSync(`${remote}/d/ok`, "1");
    const server = net.createServer().listen(`${remote}/d/socket`);
    try {
      const pulled = await file(["pull", "-r", `${remote}/d`, "d"]);
      expect(pulled).toMatchObject({ code: 0, err: expect.stringContaining("socket") });
      expect(fs.readdirSync(path.join(local, "d"))).toEqual(["ok"]);
    } finally {
      server.close();
    }
  });
});

describe("edit", () => {
  const editor = (script: string) => ({ env: { EDITOR: `sh -c '${script}' editor` } });

  test("[CLI-66] saves a change, keeps the mode, and touches nothing otherwise", async () => {
    fs.writeFileSync(`${remote}/f`, "one\n", { mode: 0o640 });
    expect(await file(["edit", `${remote}/f`], editor("echo two >> $1"))).toMatchObject({ code: 0 });
    expect([fs.readFileSync(`${remote}/f`, "utf8"), fs.statSync(`${remote}/f`).mode & 0o777]).toEqual(["one\ntwo\n", 0o640]);
    const { ino } = fs.statSync(`${remote}/f`);
    await file(["edit", `${remote}/f`], editor("true"));
    expect(fs.statSync(`${remote}/f`).ino).toBe(ino);
    expect(await file(["edit", `${remote}/new`], editor("echo made > $1"))).toMatchObject({ code: 0 });
    expect(fs.readFileSync(`${remote}/new`, "utf8")).toBe("made\n");
  });

  test("[CLI-66] a file that changed meanwhile is not overwritten; the user's version is kept", async () => {
    fs.writeFileSync(`${remote}/f`, "one\n");
    const result = await file(["edit", `${remote}/f`], editor(`echo mine >> $1; echo theirs > ${remote}/f`));
    expect([result.code, fs.readFileSync(`${remote}/f`, "utf8")]).toEqual([1, "theirs\n"]);
    expect(result.err).toContain("was changed in the sprite meanwhile");
    const kept = /version is in (\S+)\.\n/.exec(result.err)?.[1] ?? "";
    expect(fs.readFileSync(kept, "utf8")).toBe("one\nmine\n");
    fs.rmSync(path.dirname(kept), { recursive: true });
  });

  test("[CLI-66] an editor that fails saves nothing", async () => {
    fs.writeFileSync(`${remote}/f`, "one\n");
    expect(await file(["edit", `${remote}/f`], editor("echo x >> $1; exit 3"))).toMatchObject({
      code: 1,
      err: expect.stringContaining("ended with 3"),
    });
    expect(fs.readFileSync(`${remote}/f`, "utf8")).toBe("one\n");
  });
});

test("[CLI-67] exec uploads the files of --file first", async () => {
  fs.writeFileSync(path.join(local, "a"), "A");
  fs.writeFileSync(path.join(local, "b"), "B");
  const args = [
    "exec",
    "-s",
    "dev",
    "--file",
    `a:${remote}/a`,
    "--file",
    `b:${remote}/sub/b`,
    "--",
    "cat",
    `${remote}/a`,
    `${remote}/sub/b`,
  ];
  expect(await collect(home.start(args, { cwd: local }))).toMatchObject({ code: 0, out: "AB" });
});

type Tree = { name: string; kind: "file" | "link" | "directory"; size: number; mode: number; time: number; below: Tree[] };

const name = fc
  .stringMatching(/^[a-zA-Z0-9 ä_.-]{1,120}$/)
  .filter((text) => text !== "." && text !== ".." && Buffer.byteLength(text) < 250);
const node = fc.record({
  name,
  kind: fc.constantFrom("file", "file", "link", "directory" as const),
  size: fc.constantFrom(0, 1, 511, 512, 513, 70_000),
  mode: fc.constantFrom(0o600, 0o644, 0o755, 0o444),
  time: fc.integer({ min: 1, max: 2_000_000_000 }),
});
const trees: fc.Arbitrary<Tree[]> = fc.letrec<{ list: Tree[] }>((tie) => ({
  list: fc.uniqueArray(
    fc.oneof(
      { maxDepth: 3 },
      node.map((one) => ({ ...one, below: [] })),
      fc.tuple(node, tie("list")).map(([one, below]) => ({ ...one, below })),
    ) as fc.Arbitrary<Tree>,
    { maxLength: 5, selector: (one) => one.name },
  ),
})).list;

function plant(tree: readonly Tree[], directory: string): void {
  for (const { name: text, kind, size, mode, time, below } of tree) {
    const at = path.join(directory, text);
    if (kind === "directory") {
      fs.mkdirSync(at);
      plant(below, at);
      fs.chmodSync(at, 0o700 | mode);
    } else if (kind === "link") fs.symlinkSync(`../${text}`, at);
    else {
      fs.writeFileSync(at, Buffer.alloc(size, text));
      fs.chmodSync(at, mode);
    }
    if (kind !== "link") fs.utimesSync(at, time, time);
  }
}

/** Everything below a directory as text. */
function pictureOf(directory: string): string[] {
  return fs
    .readdirSync(directory, { recursive: true, encoding: "utf8" })
    .toSorted()
    .map((entry) => {
      const at = path.join(directory, entry);
      const stat = fs.lstatSync(at);
      const content = stat.isFile() ? hash(at) : stat.isSymbolicLink() ? fs.readlinkSync(at) : "";
      return `${entry} ${(stat.mode & 0o170777).toString(8)} ${stat.isSymbolicLink() ? "" : Math.floor(stat.mtimeMs / 1000)} ${content}`;
    });
}
