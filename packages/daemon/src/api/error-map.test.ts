import { Scope } from "@sprited/base";
import { DiskError } from "@sprited/disk";
import { ApiError } from "@sprited/protocol/errors";
import { VmmError } from "@sprited/vmm";
import { describe, expect, test } from "vitest";
import { toApiError } from "./error-map.ts";

const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
const broken = Object.assign(new Error("EIO: i/o error, fsync"), { code: "EIO" });
const sqlite = (errcode: number) => Object.assign(new Error("database"), { code: "ERR_SQLITE_ERROR", errcode });

describe("errors of the host's disk", () => {
  test.each([
    ["a write", full, "disk_full"],
    ["a quota", Object.assign(new Error("EDQUOT"), { code: "EDQUOT" }), "disk_full"],
    ["the database", sqlite(13), "disk_full"],
    ["a machine that could not be started for it", new VmmError("vmm_control", "no", { cause: full }), "disk_full"],
    ["a flush", broken, "disk_failed"],
    ["the database's flush", sqlite(1034), "disk_failed"],
    ["a clone", new DiskError("disk_io", "no", { cause: broken }), "disk_failed"],
    ["a constraint of the database", sqlite(2067), "internal"],
  ])("%s", (_, error, code) => {
    expect(toApiError(error).code).toBe(code);
  });

  test("what failed first is told, also when its clean-up failed too", async () => {
    const work = async (error: Error | undefined): Promise<void> => {
      await using scope = new Scope("work");
      scope.defer("what was made", () => {
        throw broken;
      });
      if (error) throw error;
    };
    expect((await work(full).catch(toApiError))?.code).toBe("disk_full");
    expect((await work(new ApiError("sprite_name_taken", "taken")).catch(toApiError))?.code).toBe("sprite_name_taken");
    expect((await work(undefined).catch(toApiError))?.code).toBe("disk_failed");
  });
});
