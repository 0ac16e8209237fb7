import fs from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { STATE_OFFSET } from "./args.ts";
import { sealState, verifySnapshot } from "./snapshot.ts";

const IDENTITY = { build: "b", shape: { cpus: 1, memoryMib: 1 } };

describe("the state of a memory snapshot", () => {
  let directory: string;
  const at = (name: string): string => path.join(directory, name);
  beforeEach(async () => {
    directory = await fs.mkdtemp(path.join(tmpdir(), "sprited-state-"));
    await fs.writeFile(at("written"), Buffer.concat([Buffer.alloc(STATE_OFFSET), Buffer.from("the machine")]));
    await fs.writeFile(at("ram"), Buffer.alloc(1024 * 1024));
  });
  afterEach(() => fs.rm(directory, { recursive: true }));

  const snapshot = (): Parameters<typeof verifySnapshot>[0] => ({ ...IDENTITY, ramPath: at("ram"), statePath: at("state") });

  test("is complete once sealed, and appears in one step", async () => {
    await sealState(at("written"), at("state"), IDENTITY);
    await verifySnapshot(snapshot(), IDENTITY);
    expect((await fs.readFile(at("state"))).subarray(STATE_OFFSET).toString()).toBe("the machine");
    expect((await fs.readdir(directory)).sort()).toEqual(["ram", "state", "written"]);
  });

  test("of another build or shape is refused by its own header, whatever the record says", async () => {
    await sealState(at("written"), at("state"), { ...IDENTITY, build: "older" });
    await expect(verifySnapshot(snapshot(), IDENTITY)).rejects.toThrow("another build");
    await sealState(at("written"), at("state"), { ...IDENTITY, shape: { cpus: 2, memoryMib: 1 } });
    await expect(verifySnapshot(snapshot(), IDENTITY)).rejects.toThrow("another shape");
  });

  test("is never taken through a link: the machine's user could have put it there", async () => {
    await fs.writeFile(at("secret"), "of the host");
    await fs.rm(at("written"));
    await fs.symlink(at("secret"), at("written"));
    await expect(sealState(at("written"), at("state"), IDENTITY)).rejects.toThrow("ELOOP");
    expect(await fs.readdir(directory)).not.toContain("state");
  });

  test("is not taken when it is empty or absurdly large", async () => {
    await fs.truncate(at("written"), STATE_OFFSET);
    await expect(sealState(at("written"), at("state"), IDENTITY)).rejects.toMatchObject({ code: "vmm_control" });
    await fs.truncate(at("written"), 65 * 1024 * 1024);
    await expect(sealState(at("written"), at("state"), IDENTITY)).rejects.toMatchObject({ code: "vmm_control" });
  });

  test.each([0, 1, STATE_OFFSET - 1, STATE_OFFSET, STATE_OFFSET + 3])("cut off after %i bytes is refused", async (length) => {
    await sealState(at("written"), at("state"), IDENTITY);
    await fs.truncate(at("state"), length);
    await expect(verifySnapshot(snapshot(), IDENTITY)).rejects.toMatchObject({ code: "vmm_snapshot_unusable" });
  });
});
