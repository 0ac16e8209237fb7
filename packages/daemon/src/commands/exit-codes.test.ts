import { readFileSync } from "node:fs";
import path from "node:path";
import { DeadlineError } from "@sprited/base";
import { DiskError } from "@sprited/disk";
import { VmmError } from "@sprited/vmm";
import { describe, expect, it } from "vitest";
import { ConfigError, configurationDocument } from "../config/index.ts";
import { LockedError } from "../lock.ts";
import { SetupError } from "../setup/index.ts";
import { EXIT_CODES, exitCodesDocument } from "./exit-codes.ts";
import { CommandError, explainFailure } from "./failure.ts";

const docs = path.resolve(import.meta.dirname, "..", "..", "..", "..", "docs");

describe("exit codes", () => {
  it("are unique and leave room for signals", () => {
    const codes = Object.values(EXIT_CODES).map(({ code }) => code);
    expect(new Set(codes).size).toBe(codes.length);
    for (const code of codes) expect(code).toBeLessThan(64);
  });

  it("are documented as they are (tools/write-docs.ts writes the page)", () => {
    expect(readFileSync(path.join(docs, "exit-codes.md"), "utf8")).toBe(exitCodesDocument());
  });

  it("and settings too", () => {
    expect(readFileSync(path.join(docs, "configuration.md"), "utf8")).toBe(configurationDocument());
  });
});

describe("explainFailure", () => {
  const port = Object.assign(new Error("listen EADDRINUSE"), { code: "EADDRINUSE", syscall: "listen", address: "127.0.0.1", port: 7780 });
  const denied = Object.assign(new Error("listen EACCES"), { code: "EACCES", syscall: "listen", address: "0.0.0.0", port: 80 });
  const readOnly = Object.assign(new Error("mkdir"), { code: "EROFS", syscall: "mkdir", path: "/srv/home" });
  const offline = new DiskError("disk_build_failed", "the packages could not be fetched", {
    cause: new Error("Temporary failure resolving 'deb.debian.org'"),
  });

  it.each([
    ["a wrong setting", new ConfigError(["SPRITED_X: no"]), "config", "SPRITED_X: no"],
    ["no room", new SetupError("no_space", "3 GiB are needed"), "no_space", "3 GiB are needed"],
    ["no room while building", new DiskError("disk_full", "needs 3, has 1"), "no_space", "needs 3"],
    ["a second daemon", new LockedError("/home", { pid: 7, role: "daemon", url: "http://x" }), "home_busy", "process id 7"],
    ["a busy port", port, "port_busy", "127.0.0.1:7780 is in use"],
    ["a forbidden port", denied, "port_busy", "0.0.0.0:80 cannot be listened on"],
    ["a read-only home", readOnly, "home_unusable", "/srv/home cannot be used (EROFS)"],
    ["no network", offline, "no_network", "cannot be reached"],
    ["a guest that stays silent", new DeadlineError("booting a VM", 1000), "vmm_failed", "booting a VM: nothing within 1000 ms"],
    ["no VM", new VmmError("vmm_unavailable", "QEMU is missing"), "vmm_failed", "QEMU is missing"],
    ["a mistake of the caller", new CommandError("daemon_unreachable", "no daemon"), "daemon_unreachable", "no daemon"],
  ])("gives %s its own code and a sentence", (_, error, exit, words) => {
    const failure = explainFailure(error);
    expect(failure.exit).toBe(exit);
    expect(failure.message).toContain(words);
    expect(failure.message).not.toMatch(/\n\s+at /);
  });

  it("shows the stack of what nobody foresaw", () => {
    expect(explainFailure(new Error("bug"))).toMatchObject({ exit: "failed", message: expect.stringMatching(/bug\n\s+at /) as string });
    expect(explainFailure("thrown text")).toEqual({ exit: "failed", message: "thrown text" });
  });

  it("shows causes to the operator", () => {
    const error = new DiskError("disk_pool", "the pool could not be made", { cause: new Error("mkfs.xfs exited with 1") });
    expect(explainFailure(error).message).toBe("the pool could not be made\n  because: mkfs.xfs exited with 1");
  });
});
