/** File calls over a real link to a real agent, without a VM: the frames themselves. */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { GuestLink } from "@sprited/daemon";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BareGuest, startBareGuest } from "../kit/bare-guest.ts";

type Call = ReturnType<GuestLink["openFileCall"]>;

let guest: BareGuest;
let link: GuestLink;
let top: string;

beforeAll(async () => {
  guest = await startBareGuest();
  link = await guest.link();
  top = fs.mkdtempSync(path.join(os.tmpdir(), "guest-files-"));
});
afterAll(async () => {
  await link[Symbol.asyncDispose]();
  await guest[Symbol.asyncDispose]();
  fs.rmSync(top, { recursive: true, force: true });
});

const open = (request: object): Call => link.openFileCall({ as_root: false, dir: top, ...request } as never, { firstAnswerMs: 10_000 });
const kinds = async (call: Call): Promise<string[]> => {
  const all: string[] = [];
  for await (const answer of call.answers) all.push(answer.kind === "record" ? answer.record.kind : `${answer.bytes.length} bytes`);
  return all;
};
const writeOf = (more: object = {}): object => ({
  op: "write",
  path: "f",
  mode: null,
  parents: false,
  if_match: null,
  how: "replace",
  offset: 0,
  upload: null,
  sparse: false,
  ...more,
});

describe("file calls", () => {
  test("[FILE-1] [FILE-2] a request, its input and its end; records and bytes come back", async () => {
    const writing = open(writeOf());
    await writing.send(Buffer.alloc(300_000, "x"));
    writing.endInput();
    expect(await kinds(writing)).toEqual(["written"]);
    const read = { op: "read", path: "f", offset: 0, length: null, if_match: null };
    expect(await kinds(open(read))).toEqual(["file", "131072 bytes", "131072 bytes", "37856 bytes"]);
  });

  test("[FILE-1] a request that fits no schema is refused, and the link lives on", async () => {
    for (const request of [{ op: "nonsense" }, { op: "stat" }, { op: "stat", path: "a\0b", follow: true, digest: false }]) {
      await expect(kinds(open(request))).rejects.toMatchObject({ failure: { code: "AGENT_INVALID" } });
    }
    expect((await link.status()).inner).toBe("running");
  });

  test("[FILE-3] a stream that ends without its input end changes nothing", async () => {
    fs.writeFileSync(path.join(top, "kept"), "kept");
    const call = open(writeOf({ path: "kept" }));
    await call.send(Buffer.from("half"));
    call.close();
    await expect(kinds(call)).rejects.toThrow();
    const after = open(writeOf({ path: "kept2" }));
    after.endInput();
    expect(await kinds(after)).toEqual(["written"]);
    expect(fs.readFileSync(path.join(top, "kept"), "utf8")).toBe("kept");
  });

  test("[FILE-4] [FS-16] a reader that does not read holds the guest's file system back", async () => {
    fs.writeFileSync(path.join(top, "huge"), "");
    fs.truncateSync(path.join(top, "huge"), 10 ** 12);
    const before = process.memoryUsage().rss;
    const call = open({ op: "read", path: "huge", offset: 0, length: null, if_match: null });
    const answers = call.answers[Symbol.asyncIterator]();
    await answers.next();
    for (let round = 0; round < 20; round += 1) expect((await link.status()).inner).toBe("running");
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(process.memoryUsage().rss - before).toBeLessThan(200_000_000);
    call.close();
  });
});
