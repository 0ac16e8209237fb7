import { describe, expect, test } from "vitest";
import { TerminalWindows } from "./terminal-windows.ts";

const small = { cols: 80, rows: 24 };
const large = { cols: 200, rows: 50 };

describe("a terminal's size", () => {
  test("[EXEC-18] is that of the client that was active last; who leaves hands over to the one before", () => {
    const windows = new TerminalWindows(small);
    const [first, second, viewer] = [{}, {}, {}];
    expect(windows.resize(first, small)).toBeUndefined();
    expect(windows.resize(second, large)).toEqual(large);
    expect(windows.active(second)).toBeUndefined();
    expect(windows.active(viewer)).toBeUndefined();
    expect(windows.active(first)).toEqual(small);
    expect(windows.active(second)).toEqual(large);
    expect(windows.leave(viewer)).toBeUndefined();
    expect(windows.leave(second)).toEqual(small);
    expect(windows.leave(first)).toBeUndefined();
    expect(windows.size).toEqual(small);
  });
});
