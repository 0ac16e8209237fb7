import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findGoneHomes, removeHomeRecord, writeHomeRecord } from "./home-records.ts";

describe("home records", () => {
  let place: string;
  let records: string;
  let home: string;

  beforeEach(async () => {
    place = await mkdtemp(path.join(tmpdir(), "home-records-"));
    records = path.join(place, "records");
    home = path.join(place, "home");
    await mkdir(home);
  });
  afterEach(async () => {
    await rm(place, { recursive: true });
  });

  /** The record as a process that has ended would have left it. */
  async function writeOfDeadProcess(homeId: string): Promise<void> {
    await mkdir(records, { recursive: true });
    // The number of a process that lives, which began at another time.
    await writeFile(path.join(records, `${homeId}.json`), JSON.stringify({ home, pid: process.pid, startTicks: "1" }));
  }

  it("[NET-25] a home that is gone is found when its process has ended", async () => {
    await writeOfDeadProcess("0123abcd");
    expect(await findGoneHomes(records)).toEqual([]);
    await rm(home, { recursive: true });
    expect(await findGoneHomes(records)).toEqual([{ home, homeId: "0123abcd", pid: process.pid, startTicks: "1" }]);
  });

  it("[NET-25] a home whose process lives is never gone", async () => {
    await writeHomeRecord("0123abcd", home, records);
    await rm(home, { recursive: true });
    expect(await findGoneHomes(records)).toEqual([]);
  });

  it("a home that does not exist leaves no record, and a removed record is no error", async () => {
    await writeHomeRecord("0123abcd", path.join(place, "nowhere"), records);
    await removeHomeRecord("0123abcd", records);
    await expect(readdir(records)).rejects.toMatchObject({ code: "ENOENT" });
    expect(await findGoneHomes(records)).toEqual([]);
  });

  it("what is no record is passed over", async () => {
    await writeOfDeadProcess("0123abcd");
    await rm(home, { recursive: true });
    await writeFile(path.join(records, "89abcdef.json"), "{");
    await writeFile(path.join(records, "76543210.json"), '{"home":"relative","pid":1,"startTicks":"1"}');
    await writeFile(path.join(records, "0123abcd.json.7.tmp"), "{}");
    expect((await findGoneHomes(records)).map((record) => record.homeId)).toEqual(["0123abcd"]);
  });
});
