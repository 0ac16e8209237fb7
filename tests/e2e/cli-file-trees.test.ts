/** `sprite file push -r` and `pull -r` over a wire that is cut, and after a command that was killed: counted in bytes. */
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";
import { sdkOf } from "../kit/target.ts";
import { CliHome, type CliResult, collect } from "./cli-run.ts";
import { Wire } from "./cli-wire.ts";

vi.setConfig({ testTimeout: 400_000 });

/** So large that what is in the buffers of sockets when a wire is cut is little of it. */
const LARGE_BYTES = 48_000_000;
const SMALL_FILES = 20;
const SMALL_BYTES = 100_000;
const TREE_BYTES = LARGE_BYTES + SMALL_FILES * SMALL_BYTES;
/** Time of the last change of every file, s. */
const TIME_S = 1_700_000_000;

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
}, 60_000);
afterAll(async () => {
  wire?.close();
  await home?.remove();
  await target?.[Symbol.asyncDispose]();
});
beforeEach(() => {
  wire.reset();
  remote = fs.mkdtempSync(path.join(os.tmpdir(), "trees-remote-"));
  local = fs.mkdtempSync(path.join(os.tmpdir(), "trees-local-"));
  return () => {
    for (const directory of [remote, local]) fs.rmSync(directory, { recursive: true, force: true });
  };
});

const file = (args: readonly string[]): Promise<CliResult> =>
  home.run(["file", args[0] ?? "", "-s", "dev", ...args.slice(1)], { cwd: local, timeoutMs: 300_000 });

/** Runs a command that is killed as soon as `bytes` have passed; the wire is new afterwards and has what it counted. */
async function killedAfter(bytes: number, args: readonly string[]): Promise<void> {
  const child = home.start(["file", args[0] ?? "", "-s", "dev", ...args.slice(1)], { cwd: local });
  wire.once = { at: bytes, act: () => child.kill("SIGKILL") };
  expect((await collect(child, 300_000)).code).toBe(null);
}

/** A large file between small ones, in directories. */
function plant(top: string): void {
  fs.mkdirSync(path.join(top, "in"), { recursive: true });
  for (let index = 0; index < SMALL_FILES; index += 1)
    fs.writeFileSync(path.join(top, index % 2 === 0 ? "in" : ".", `s${index}`), randomBytes(SMALL_BYTES));
  fs.writeFileSync(path.join(top, "in", "large"), randomBytes(LARGE_BYTES), { mode: 0o750 });
  fs.symlinkSync("in/large", path.join(top, "link"));
  for (const name of namesIn(top)) if (name !== "link") fs.utimesSync(path.join(top, name), TIME_S, TIME_S + 0.25);
}

function namesIn(top: string): string[] {
  return fs.readdirSync(top, { recursive: true, encoding: "utf8" }).toSorted();
}

/** Everything below a directory as text, its own time included. */
function pictureOf(top: string): string[] {
  return namesIn(top).map((name) => {
    const at = path.join(top, name);
    const stat = fs.lstatSync(at);
    if (stat.isSymbolicLink()) return `${name} → ${fs.readlinkSync(at)}`;
    const content = stat.isFile() ? createHash("sha256").update(fs.readFileSync(at)).digest("hex") : "";
    return `${name} ${(stat.mode & 0o170777).toString(8)} ${Math.floor(stat.mtimeMs)} ${content}`;
  });
}

const LOST = { code: 0, err: expect.stringContaining("connection lost") };

describe("push -r", () => {
  const push = ["push", "-r"] as const;

  test("[CLI-62] a large file of a tree goes on at the right byte after a cut", async () => {
    plant(path.join(local, "tree"));
    wire.once = { at: TREE_BYTES / 2, act: () => {} };
    expect(await file([...push, "tree", `${remote}/tree`])).toMatchObject(LOST);
    expect(pictureOf(`${remote}/tree`)).toEqual(pictureOf(path.join(local, "tree")));
    expect(wire.bytes).toBeLessThan(1.3 * TREE_BYTES);
  });

  test("[CLI-62] a second run after the first was killed sends what is missing, and a third nothing", async () => {
    plant(path.join(local, "tree"));
    await killedAfter(TREE_BYTES / 2, [...push, "tree", `${remote}/tree`]);
    expect(await file([...push, "tree", `${remote}/tree`])).toMatchObject({ code: 0, err: "" });
    expect(pictureOf(`${remote}/tree`)).toEqual(pictureOf(path.join(local, "tree")));
    expect(wire.bytes).toBeLessThan(1.3 * TREE_BYTES);
    wire.reset();
    expect(await file([...push, "tree", `${remote}/tree`])).toMatchObject({ code: 0, err: "" });
    expect(pictureOf(`${remote}/tree`)).toEqual(pictureOf(path.join(local, "tree")));
    expect(wire.bytes).toBeLessThan(100_000);
  });

  test("[CLI-62] what has changed is sent, also within one second, and a mode that changed too", async () => {
    const at = (name: string): string => path.join(local, "tree", name);
    plant(path.join(local, "tree"));
    await file([...push, "tree", `${remote}/tree`]);
    for (const name of ["s1", "in/large"]) {
      fs.writeFileSync(at(name), randomBytes(fs.statSync(at(name)).size));
      fs.utimesSync(at(name), TIME_S, TIME_S + 0.375);
    }
    fs.chmodSync(at("s3"), 0o600);
    expect(await file([...push, "tree", `${remote}/tree`])).toMatchObject({ code: 0, err: "" });
    expect(pictureOf(`${remote}/tree`)).toEqual(pictureOf(path.join(local, "tree")));
  });

  test("[CLI-64] a large file takes the place of a symlink and leaves alone what that names", async () => {
    plant(path.join(local, "tree"));
    fs.mkdirSync(`${remote}/tree/in`, { recursive: true });
    fs.writeFileSync(`${remote}/else`, "untouched");
    fs.symlinkSync(`${remote}/else`, `${remote}/tree/in/large`);
    expect(await file([...push, "tree", `${remote}/tree`])).toMatchObject({ code: 0, err: "" });
    expect(fs.readFileSync(`${remote}/else`, "utf8")).toBe("untouched");
    expect(pictureOf(`${remote}/tree`)).toEqual(pictureOf(path.join(local, "tree")));
  });

  test("[CLI-68] the bytes that are shown have arrived: after a loss they do not go back", async () => {
    plant(path.join(local, "tree"));
    wire.cutEvery = 8_000_000;
    const command = `exec '${path.resolve(import.meta.dirname, "../../packages/cli/bin/sprite")}' file push -s dev -r tree '${remote}/tree'`;
    const child = home.startIn("script", ["-qefc", command, "/dev/null"], { cwd: local, env: { TERM: "xterm", SHELL: "/bin/sh" } });
    const { code, out } = await collect(child, 300_000);
    expect([code, out]).toEqual([0, expect.stringContaining("connection lost")]);
    const shown = [...out.matchAll(/ (\d+) %/g)].map(([, percent]) => Number(percent));
    expect(shown.length).toBeGreaterThan(3);
    expect(shown).toEqual(shown.toSorted((one, other) => one - other));
  });
});

describe("pull -r", () => {
  const pull = ["pull", "-r"] as const;

  test("[CLI-62] a large file of a tree goes on at the right byte after a cut", async () => {
    plant(`${remote}/tree`);
    wire.once = { at: TREE_BYTES / 2, act: () => {} };
    expect(await file([...pull, `${remote}/tree`, "tree"])).toMatchObject(LOST);
    expect(pictureOf(path.join(local, "tree"))).toEqual(pictureOf(`${remote}/tree`));
    expect(wire.bytes).toBeLessThan(1.3 * TREE_BYTES);
  });

  test("[CLI-62] a second run after the first was killed fetches what is missing, and a third nothing", async () => {
    plant(`${remote}/tree`);
    await killedAfter(TREE_BYTES / 2, [...pull, `${remote}/tree`, "tree"]);
    expect(await file([...pull, `${remote}/tree`, "tree"])).toMatchObject({ code: 0, err: "" });
    expect(pictureOf(path.join(local, "tree"))).toEqual(pictureOf(`${remote}/tree`));
    expect(wire.bytes).toBeLessThan(1.3 * TREE_BYTES);
    wire.reset();
    expect(await file([...pull, `${remote}/tree`, "tree"])).toMatchObject({ code: 0, err: "" });
    expect(pictureOf(path.join(local, "tree"))).toEqual(pictureOf(`${remote}/tree`));
    expect(wire.bytes).toBeLessThan(100_000);
  });

  test("[CLI-62] a file that changed in the sprite between two runs is fetched whole, and nothing of the old one stays", async () => {
    plant(`${remote}/tree`);
    await killedAfter(TREE_BYTES / 2, [...pull, `${remote}/tree`, "tree"]);
    fs.writeFileSync(`${remote}/tree/in/large`, randomBytes(LARGE_BYTES));
    fs.writeFileSync(`${remote}/tree/s1`, randomBytes(SMALL_BYTES));
    expect(await file([...pull, `${remote}/tree`, "tree"])).toMatchObject({ code: 0, err: "" });
    expect(pictureOf(path.join(local, "tree"))).toEqual(pictureOf(`${remote}/tree`));
  });

  test("[CLI-62] a part that is not what was fetched is noticed and fetched anew", async () => {
    plant(`${remote}/tree`);
    await killedAfter(TREE_BYTES / 2, [...pull, `${remote}/tree`, "tree"]);
    const [part] = namesIn(path.join(local, "tree")).filter((name) => name.endsWith(".part"));
    const handle = fs.openSync(path.join(local, "tree", part ?? ""), "r+");
    fs.writeSync(handle, "damaged", 1000);
    fs.closeSync(handle);
    expect(await file([...pull, `${remote}/tree`, "tree"])).toMatchObject({ code: 0, err: "" });
    expect(pictureOf(path.join(local, "tree"))).toEqual(pictureOf(`${remote}/tree`));
  });

  test("[CLI-65] [CLI-64] into a directory that has something: merged, with what cannot be copied named", async () => {
    fs.mkdirSync(`${remote}/tree/in`, { recursive: true });
    fs.writeFileSync(`${remote}/tree/in/a`, "theirs");
    fs.mkdirSync(path.join(local, "tree", "in"), { recursive: true });
    fs.writeFileSync(path.join(local, "tree", "in", "a"), "mine, longer");
    fs.writeFileSync(path.join(local, "tree", "in", "b"), "mine");
    await collect(home.startIn("mkfifo", [`${remote}/tree/pipe`], {}));
    expect(await file([...pull, `${remote}/tree`, "tree"])).toMatchObject({ code: 0, err: "left out EINVAL pipe\n" });
    expect(namesIn(path.join(local, "tree"))).toEqual(["in", "in/a", "in/b"]);
    expect(fs.readFileSync(path.join(local, "tree", "in", "a"), "utf8")).toBe("theirs");
  });
});

describe("one file", () => {
  test("[CLI-62] a second run after the first was killed goes on at the right byte, both ways", async () => {
    fs.writeFileSync(path.join(local, "large"), randomBytes(LARGE_BYTES));
    await killedAfter(LARGE_BYTES / 2, ["push", "large", `${remote}/large`]);
    expect(fs.readdirSync(remote)).toEqual([]);
    expect(await file(["push", "large", `${remote}/large`])).toMatchObject({ code: 0, err: "" });
    expect(wire.bytes).toBeLessThan(1.3 * LARGE_BYTES);
    wire.reset();
    await killedAfter(LARGE_BYTES / 2, ["pull", `${remote}/large`, "back"]);
    expect(await file(["pull", `${remote}/large`, "back"])).toMatchObject({ code: 0, err: "" });
    expect(wire.bytes).toBeLessThan(1.3 * LARGE_BYTES);
    expect(fs.readdirSync(local).toSorted()).toEqual(["back", "large"]);
    for (const copy of [path.join(remote, "large"), path.join(local, "back")])
      expect(fs.readFileSync(copy).equals(fs.readFileSync(path.join(local, "large")))).toBe(true);
  });
});
