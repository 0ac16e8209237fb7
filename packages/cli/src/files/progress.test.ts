import { expect, test } from "vitest";
import { bytesText, progressLine } from "./progress.ts";

test("[CLI-68] the line shows bytes, share, rate and time left, and fits 80 columns", () => {
  const line = progressLine({ name: "data.bin", done: 30_000_000, total: 120_000_000, rate: 1_500_000 });
  expect(line).toBe("data.bin             ━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  25 %  30.0 MB  1.5 MB/s  1:00 left");
  for (const rate of [0.01, 99.9, 17_000, 99_900, 300_000, 99_900_000, 1e9])
    for (const done of [0, 99_900_000, 99_900_000_000, 999_999_999_999])
      expect(progressLine({ name: "x".repeat(200), done, total: 1e12, rate }).length).toBeLessThan(80);
});

test("[CLI-68] without a known size there is no bar; names are made harmless", () => {
  expect(progressLine({ name: "a\x1b[31m", done: 5, total: undefined, rate: 0 })).not.toContain("\x1b");
  expect(progressLine({ name: "f", done: 1234, total: undefined, rate: 0 })).toBe(`${"f".padEnd(20)}  1.2 KB`);
});

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1000, "1.0 KB"],
  [99_900, "100 KB"],
  [999_499, "999 KB"],
  [999_500, "1.0 MB"],
  [5e12, "5.0 TB"],
])("%i bytes are %s", (bytes, text) => {
  expect(bytesText(bytes)).toBe(text);
});
