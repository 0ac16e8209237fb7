import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { expect, it } from "vitest";
import { dataExtents, parseExtents } from "./extents.ts";

const LIST = `Filesystem type is: 58465342
File size of /d is 20480 (20480 blocks of 1 bytes)
 ext:     logical_offset:        physical_offset: length:   expected: flags:
   0:        0..    4095:    1228800..   1232895:   4096:
   1:     4096..    8191:    9228800..   9232895:   4096:    1232896: shared
   2:    12288..   16383:      40960..     45055:   4096:             unwritten
   3:    16384..   24575:     204800..    212991:   8192:             last,eof
/d: 3 extents found
`;

it("reads the list of ranges: neighbours joined, reserved ones left out, nothing beyond the end", () => {
  expect(parseExtents(LIST, 20_480)).toEqual([
    { offset: 0, length: 8192 },
    { offset: 16_384, length: 4096 },
  ]);
  expect(parseExtents("/d: 0 extents found\n", 100)).toEqual([]);
  expect(parseExtents("FIBMAP: Inappropriate ioctl\n", 100)).toBeUndefined();
});

it("every byte of a sparse file that is not zero lies in a range", async () => {
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-extents-"));
  try {
    const file = path.join(directory, "sparse");
    await using handle = await fs.open(file, "w+");
    await handle.truncate(64 * 1024 * 1024);
    const places = [0, 5_000_000, 64 * 1024 * 1024 - 3];
    for (const place of places) await handle.write(Buffer.from("abc"), 0, 3, place);
    await handle.sync();
    const extents = await dataExtents(file);
    for (const place of places) {
      expect(
        extents.some(({ offset, length }) => offset <= place && place + 3 <= offset + length),
        String(place),
      ).toBe(true);
    }
    expect(await dataExtents(path.join(directory, "sparse"))).toEqual(extents);
  } finally {
    await fs.rm(directory, { recursive: true });
  }
});
