/** What file work may touch: nothing outside of the root, nothing that its caller may not, nothing that waits. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import type { FileRecord, FileRequest } from "@sprited/protocol/guest";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Input, Work } from "./call.ts";
import { become, ROOT } from "./caller.ts";
import { chmod, chown, copy, remove, rename } from "./change.ts";
import { list, read, stat } from "./read.ts";
import { readTree, writeTree } from "./tree.ts";
import { Uploads } from "./uploads.ts";
import { write } from "./write.ts";

const isRoot = process.getuid?.() === 0;
const NOBODY = { uid: 65_534, gid: 65_534, groups: [65_534] };
const uploads = new Uploads();

let outside: string;
let root: string;
let rootFd: number;

beforeEach(() => {
  outside = fs.mkdtempSync(path.join(os.tmpdir(), "contain-"));
  root = path.join(outside, "root");
  fs.mkdirSync(root);
  fs.chmodSync(outside, 0o755);
  fs.writeFileSync(path.join(outside, "secret"), "outside");
  fs.writeFileSync(path.join(root, "secret"), "inside");
  rootFd = fs.openSync(root, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
});
afterEach(() => {
  become(ROOT);
  uploads.clear();
  fs.closeSync(rootFd);
  fs.rmSync(outside, { recursive: true, force: true });
});

type Asked = { [Op in FileRequest["op"]]: Partial<Extract<FileRequest, { op: Op }>> & { op: Op } }[FileRequest["op"]];

/** Runs a call to its end with its input; gives what it told, or the errno's name. */
function run(asked: Asked, inputs: Input[] = [], fd = rootFd): { records: FileRecord[]; data: string; code: string | undefined } {
  const records: FileRecord[] = [];
  const data: Buffer[] = [];
  let code: string | undefined;
  try {
    const work = workOf(asked, fd);
    const rest = [...inputs];
    let given: Input = { kind: "end" };
    for (let step = work.next(given); !step.done; step = work.next(given)) {
      if (step.value.kind === "record") records.push(step.value.record);
      if (step.value.kind === "data") data.push(Buffer.from(step.value.bytes));
      given = step.value.kind === "input" ? (rest.shift() ?? { kind: "end" }) : { kind: "end" };
    }
  } catch (error) {
    code = String((error as { code?: unknown }).code);
  }
  return { records, data: Buffer.concat(data).toString(), code };
}

function workOf(asked: Asked, fd: number): Work {
  const ground = { rootFd: fd, directory: "/" };
  const base = { as_root: false, dir: null, recursive: false, follow: true, digest: false, pattern: null, preserve: false, parents: true };
  const request = {
    ...base,
    mode: null,
    if_match: null,
    how: "replace",
    offset: 0,
    length: null,
    upload: null,
    sparse: false,
    mtime_ms: null,
    uid: null,
    gid: null,
    ...asked,
  };
  switch (asked.op) {
    case "stat":
      return stat(ground, request as never);
    case "list":
      return list(ground, request as never);
    case "read":
      return read(ground, request as never);
    case "write":
      return write(ground, request as never, uploads);
    case "remove":
      return remove(ground, request as never);
    case "rename":
      return rename(ground, request as never);
    case "copy":
      return copy(ground, request as never);
    case "chmod":
      return chmod(ground, request as never);
    case "chown":
      return chown(ground, request as never);
    case "tree_read":
      return readTree(ground, request as never);
    case "tree_write":
      return writeTree(ground, request as never, uploads);
    default:
      throw new Error("not a call of this test");
  }
}

const bytes = (text: string): Input[] => [{ kind: "data", bytes: Buffer.from(text) }];
const entry = (at: string, type: "file" | "directory" | "symlink" | "link", more: object = {}): Input => ({
  kind: "entry",
  entry: { path: at, type, size: 0, mode: 0o755, mtime_ms: 0, target: null, ...more },
});

describe("the root", () => {
  test("[FS-20] links, .. and both together stay inside", () => {
    fs.symlinkSync("/", path.join(root, "top"));
    fs.symlinkSync("/secret", path.join(root, "absolute"));
    fs.symlinkSync("../../../../secret", path.join(root, "up"));
    fs.mkdirSync(path.join(root, "d"));
    fs.symlinkSync(outside, path.join(root, "d/out"));
    for (const at of ["/secret", "/../secret", "/d/../../secret", "/absolute", "/up", "/top/top/secret", "/d/../up", "../secret"]) {
      expect([at, run({ op: "read", path: at }).data]).toEqual([at, "inside"]);
    }
    expect(run({ op: "read", path: "/d/out/secret" }).code).toBe("ENOENT");
    run({ op: "write", path: "/up" }, bytes("written"));
    expect([fs.readFileSync(path.join(root, "secret"), "utf8"), fs.readFileSync(path.join(outside, "secret"), "utf8")]).toEqual([
      "written",
      "outside",
    ]);
    expect(run({ op: "write", path: "/d/out/x" }, bytes("x")).code).toBe("ENOENT");
    fs.mkdirSync(path.join(root, outside), { recursive: true });
    run({ op: "write", path: "/d/out/x" }, bytes("made inside"));
    expect([fs.existsSync(path.join(outside, "x")), fs.readFileSync(path.join(root, outside, "x"), "utf8")]).toEqual([
      false,
      "made inside",
    ]);
  });

  test("[FS-20] magic links lead nowhere", () => {
    const whole = fs.openSync("/", fs.constants.O_RDONLY);
    try {
      for (const at of ["/proc/self/root/etc/passwd", `/proc/${process.pid}/cwd/package.json`, `/proc/self/fd/${rootFd}/secret`]) {
        expect([at, run({ op: "read", path: at }, [], whole).code]).toEqual([at, "ELOOP"]);
      }
    } finally {
      fs.closeSync(whole);
    }
  });

  test("[FS-13] a tree leads nowhere else, by names, links or what was there before", () => {
    fs.mkdirSync(path.join(root, "t"));
    fs.symlinkSync("/", path.join(root, "t/out"));
    const into = (...inputs: Input[]) => run({ op: "tree_write", path: "/t" }, inputs).code;
    expect(into(entry("../x", "directory"))).toBe("EINVAL");
    expect(into(entry("a/../../x", "directory"))).toBe("EINVAL");
    expect(into(entry("out/x", "directory"))).toBe("ELOOP");
    expect(into(entry("link", "symlink", { target: "/" }), entry("link/x", "directory"))).toBe("ELOOP");
    expect(into(entry("hard", "link", { target: "../secret" }))).toBe("EINVAL");
    expect(into(entry("hard", "link", { target: "out/secret" }))).toBe("ELOOP");
    expect([fs.existsSync(path.join(root, "x")), fs.existsSync(path.join(outside, "x"))]).toEqual([false, false]);
  });

  test("[FS-8] the root itself, . and .. are not removed", () => {
    for (const at of ["/", "/.", "/secret/..", ".."])
      expect([at, run({ op: "remove", path: at, recursive: true }).code]).toEqual([at, "EINVAL"]);
    expect(fs.existsSync(path.join(root, "secret"))).toBe(true);
  });

  test("[FS-8] removing, changing and copying trees does not follow links", () => {
    fs.mkdirSync(path.join(root, "d"));
    fs.writeFileSync(path.join(root, "kept"), "kept", { mode: 0o644 });
    fs.symlinkSync("/kept", path.join(root, "d/link"));
    run({ op: "chmod", path: "/d", mode: 0o700, recursive: true });
    expect(fs.statSync(path.join(root, "kept")).mode & 0o777).toBe(0o644);
    expect(run({ op: "copy", source: "/d", dest: "/d/copy", recursive: true }).code).toBeUndefined();
    expect(fs.readlinkSync(path.join(root, "d/copy/link"))).toBe("/kept");
    run({ op: "remove", path: "/d", recursive: true });
    expect([fs.existsSync(path.join(root, "d")), fs.readFileSync(path.join(root, "kept"), "utf8")]).toEqual([false, "kept"]);
  });
});

describe("what is not a file", () => {
  test("[FS-21] a pipe, a socket and a device are neither read nor written, and nobody waits for them", async () => {
    execFileSync("mkfifo", [path.join(root, "pipe")]);
    const server = net.createServer().listen(path.join(root, "socket"));
    await new Promise((resolve) => server.once("listening", resolve));
    const names = ["/pipe", "/socket"];
    if (isRoot) {
      execFileSync("mknod", [path.join(root, "device"), "c", "1", "3"]);
      names.push("/device");
    }
    for (const at of names) {
      expect([at, run({ op: "read", path: at }).code]).toEqual([at, "EINVAL"]);
      expect([at, run({ op: "write", path: at }, bytes("x")).code]).toEqual([at, "EINVAL"]);
      expect([at, run({ op: "write", path: at, how: "append" }, bytes("x")).code]).toEqual([at, "EINVAL"]);
      expect([at, run({ op: "copy", source: at, dest: "/copy" }).code]).toEqual([at, "EINVAL"]);
    }
    const tree = run({ op: "tree_read", path: "/" }).records.filter((record) => record.kind === "skipped");
    expect(tree.flatMap((record) => (record.kind === "skipped" ? [record.path] : [])).toSorted()).toEqual(
      names.map((at) => at.slice(1)).toSorted(),
    );
    server.close();
  });
});

describe.runIf(isRoot)("permissions of an ordinary user", () => {
  const asNobody = (asked: Asked, inputs: Input[] = []) => {
    become(NOBODY);
    try {
      return run(asked, inputs);
    } finally {
      become(ROOT);
    }
  };

  test("[FS-22] what the user may not read, write, remove or change is refused", () => {
    fs.chmodSync(path.join(root, "secret"), 0o600);
    expect(asNobody({ op: "read", path: "/secret" }).code).toBe("EACCES");
    expect(asNobody({ op: "write", path: "/secret" }, bytes("x")).code).toBe("EACCES");
    expect(asNobody({ op: "write", path: "/new" }, bytes("x")).code).toBe("EACCES");
    expect(asNobody({ op: "write", path: "/a/b" }, bytes("x")).code).toBe("EACCES");
    expect(asNobody({ op: "remove", path: "/secret" }).code).toBe("EACCES");
    expect(asNobody({ op: "rename", source: "/secret", dest: "/mine" }).code).toBe("EACCES");
    expect(asNobody({ op: "chmod", path: "/secret", mode: 0o777 }).code).toBe("EPERM");
    expect(asNobody({ op: "chown", path: "/secret", uid: 65_534 }).code).toBe("EPERM");
    fs.mkdirSync(path.join(root, "closed"), { mode: 0o700 });
    expect(asNobody({ op: "list", path: "/closed" }).code).toBe("EACCES");
    expect(asNobody({ op: "stat", path: "/closed/x" }).code).toBe("EACCES");
    expect(fs.readFileSync(path.join(root, "secret"), "utf8")).toBe("inside");
  });

  test("[FS-22] what the user makes is theirs", () => {
    fs.mkdirSync(path.join(root, "open"));
    fs.chmodSync(path.join(root, "open"), 0o777);
    asNobody({ op: "write", path: "/open/sub/f" }, bytes("x"));
    asNobody({ op: "tree_write", path: "/open" }, [entry("t/f", "file")]);
    for (const at of ["open/sub", "open/sub/f", "open/t", "open/t/f"]) {
      const { uid, gid } = fs.statSync(path.join(root, at));
      expect([at, uid, gid]).toEqual([at, 65_534, 65_534]);
    }
  });

  test("[FS-4] an existing file keeps owner and mode, whoever writes it; set-user-id goes", () => {
    fs.mkdirSync(path.join(root, "open"));
    fs.chmodSync(path.join(root, "open"), 0o777);
    const file = path.join(root, "open/shared");
    fs.writeFileSync(file, "old");
    fs.chmodSync(file, 0o4666);
    expect(asNobody({ op: "write", path: "/open/shared", mode: 0o600 }, bytes("new")).code).toBeUndefined();
    const { uid, mode } = fs.statSync(file);
    expect([fs.readFileSync(file, "utf8"), uid, mode & 0o7777]).toEqual(["new", 0, 0o666]);
  });

  test("[FS-4] a file is written although its directory may not be", () => {
    const file = path.join(root, "theirs");
    fs.writeFileSync(file, "something long");
    fs.chownSync(file, 65_534, 65_534);
    const { ino } = fs.statSync(file);
    expect(asNobody({ op: "write", path: "/theirs" }, bytes("short")).code).toBeUndefined();
    expect([fs.readFileSync(file, "utf8"), fs.statSync(file).ino, fs.readdirSync(root).toSorted()]).toEqual([
      "short",
      ino,
      ["secret", "theirs"],
    ]);
  });

  test("[FS-22] the kernel's own files are not written, also by root", () => {
    const whole = fs.openSync("/", fs.constants.O_RDONLY);
    try {
      for (const how of ["append", "offset", "replace"] as const) {
        expect([how, run({ op: "write", path: "/proc/self/comm", how }, bytes("x"), whole).code]).not.toEqual([how, undefined]);
      }
    } finally {
      fs.closeSync(whole);
    }
  });
});

describe("whole or not at all", () => {
  test("[FS-3] a write that is ended early leaves nothing, and what was there", () => {
    for (const at of ["/secret", "/new"]) {
      const work = workOf({ op: "write", path: at }, rootFd);
      work.next({ kind: "end" });
      work.next({ kind: "data", bytes: Buffer.from("half") });
      work.return();
    }
    const tree = workOf({ op: "tree_write", path: "/" }, rootFd);
    tree.next({ kind: "end" });
    tree.next(entry("f", "file", { size: 10 }));
    tree.next({ kind: "data", bytes: Buffer.from("half") });
    tree.return();
    expect([fs.readdirSync(root), fs.readFileSync(path.join(root, "secret"), "utf8")]).toEqual([["secret"], "inside"]);
  });

  test("[FS-6] an upload goes on where it was cut, and only there", () => {
    const upload = "a".repeat(16);
    const work = workOf({ op: "write", path: "/big", upload }, rootFd);
    work.next({ kind: "end" });
    work.next({ kind: "data", bytes: Buffer.from("first ") });
    work.return();
    expect([uploads.offsetOf(upload), fs.existsSync(path.join(root, "big"))]).toEqual([6, false]);
    expect(run({ op: "write", path: "/big", upload, offset: 3 }, bytes("x")).code).toBe("EINVAL");
    expect(run({ op: "write", path: "/big", upload, offset: 6 }, bytes("second")).code).toBeUndefined();
    expect([fs.readFileSync(path.join(root, "big"), "utf8"), uploads.offsetOf(upload)]).toEqual(["first second", 0]);
  });
});
