/** When passed-on data is collected. */
import { expect, test } from "vitest";
import { COLLECT_EVERY_BYTES, passedOn } from "./buffer-garbage.ts";

test("collects once for every so many bytes, however small the pieces", () => {
  let collections = 0;
  const collect = (): void => void (collections += 1);
  const piece = COLLECT_EVERY_BYTES / 64;
  for (let count = 0; count < 3 * 64; count += 1) passedOn(piece, collect);
  expect(collections).toBe(3);
});

test("a process without the option goes on", () => {
  for (let count = 0; count < 3; count += 1) passedOn(COLLECT_EVERY_BYTES, undefined);
});
