import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeControlData, decodeControlRequest, encodeControlAnswer } from "./control-messages.ts";

describe("control messages", () => {
  it("[CTRL-3] an operation begins with its name and arguments", () => {
    expect(decodeControlRequest('control:{"type":"op.start","op":"exec","args":{"cmd":["a"]}}')).toEqual({
      kind: "start",
      op: "exec",
      args: { cmd: ["a"] },
    });
    expect(decodeControlRequest('control:{"type":"op.start","op":"exec","args":null}')).toEqual({ kind: "start", op: "exec", args: {} });
  });

  it("[CTRL-8] anything at all is read without an error", () => {
    for (const text of ["control:", "control:7", 'control:{"type":"op.start"}'])
      expect(decodeControlRequest(text)).toMatchObject({ kind: "broken" });
    for (const text of ["", '{"type":"release"}', 'control:{"type":"keepalive"}'])
      expect(decodeControlRequest(text)).toEqual({ kind: "data" });
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.uint8Array(), fc.json()), fc.boolean(), (message, tty) => {
        expect(decodeControlRequest(message).kind).toBeTypeOf("string");
        expect(decodeControlRequest(`control:${String(message)}`).kind).toBeTypeOf("string");
        expect(decodeControlData(message, { tty }).kind).toBeTypeOf("string");
      }),
    );
  });

  it("[CTRL-5] signals and sizes come as text or as bytes", () => {
    const signal = '{"type":"signal","signal":"KILL"}';
    const size = '{"type":"resize","cols":100,"rows":30}';
    for (const tty of [true, false]) {
      for (const message of [signal, Buffer.from(signal)])
        expect(decodeControlData(message, { tty })).toEqual({ kind: "signal", signal: "KILL" });
      expect(decodeControlData(Buffer.from(size), { tty })).toEqual({ kind: "resize", cols: 100, rows: 30 });
    }
    expect(decodeControlData(Buffer.from("{x"), { tty: true })).toMatchObject({ kind: "input" });
    expect(decodeControlData(Buffer.from("\0{x"), { tty: false })).toMatchObject({ kind: "input" });
  });

  it("[CTRL-6] answers have the form that clients read", () => {
    expect(encodeControlAnswer({ kind: "complete", exitCode: 3 })).toBe('control:{"type":"op.complete","args":{"exitCode":3}}');
    expect(encodeControlAnswer({ kind: "error", message: "no" })).toBe('control:{"type":"op.error","args":{"error":"no"}}');
  });
});
