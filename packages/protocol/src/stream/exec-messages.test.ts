import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  closeCodeAfterExit,
  decodeClientMessage,
  decodeServerMessage,
  encodeExit,
  encodeFrame,
  encodeInputEnd,
  exitByte,
  signalName,
  StreamId,
} from "./exec-messages.ts";

const bytes = fc.uint8Array({ maxLength: 200 });
const tty = fc.record({ tty: fc.boolean() });
const plain = { tty: false };

describe("frames", () => {
  it("output and input come back as they went, in both framings", () => {
    fc.assert(
      fc.property(bytes, (data) => {
        expect(decodeServerMessage(encodeFrame(StreamId.stdout, data), plain)).toEqual({ kind: "output", stream: "stdout", data });
        expect(decodeServerMessage(encodeFrame(StreamId.stderr, data), plain)).toEqual({ kind: "output", stream: "stderr", data });
        expect(decodeClientMessage(encodeFrame(StreamId.stdin, data), plain)).toEqual({ kind: "input", data });
        if (data.length > 0) {
          expect(decodeServerMessage(data, { tty: true })).toEqual({ kind: "output", stream: "stdout", data });
          expect(decodeClientMessage(data, { tty: true })).toEqual({ kind: "input", data });
        }
      }),
    );
  });

  it("[API-16] the exit frame is two bytes: id and code", () => {
    expect([...encodeExit(42)]).toEqual([3, 42]);
    expect(decodeServerMessage(encodeExit(255), plain)).toEqual({ kind: "exit", code: 255 });
    expect(decodeServerMessage(Uint8Array.of(3), plain)).toEqual({ kind: "exit", code: 0 });
    expect(decodeClientMessage(encodeInputEnd(), plain)).toEqual({ kind: "input_end" });
  });

  it("[API-20] decoding never throws, whatever arrives", () => {
    fc.assert(
      fc.property(fc.oneof(bytes, fc.string(), fc.json()), tty, (message, options) => {
        expect(decodeClientMessage(message, options)).toHaveProperty("kind");
        expect(decodeServerMessage(message, options)).toHaveProperty("kind");
      }),
    );
  });

  it("[API-19] the keep-alive is nothing to a client", () => {
    expect(decodeServerMessage(new Uint8Array(), plain).kind).toBe("ignored");
    expect(decodeServerMessage(new Uint8Array(), { tty: true }).kind).toBe("ignored");
  });
});

describe("text messages", () => {
  it.each([
    ['{"type":"resize","cols":120,"rows":40}', { kind: "resize", cols: 120, rows: 40 }],
    ['{"type":"signal","signal":"SIGTERM"}', { kind: "signal", signal: "TERM" }],
    ['{"type":"signal","signal":"kill"}', { kind: "signal", signal: "KILL" }],
  ])("reads %s", (text, message) => {
    expect(decodeClientMessage(text, { tty: true })).toEqual(message);
  });

  it.each([
    '{"type":"resize","cols":0,"rows":40}',
    '{"type":"resize","cols":"120","rows":40}',
    '{"type":"resize","cols":1e9,"rows":40}',
    '{"type":"signal","signal":"FOO"}',
    '{"type":"signal","signal":15}',
    '{"type":"release"}',
    "control:{}",
    "{",
    "[]",
    "null",
    '"x"',
    "",
  ])("[API-20] ignores %j", (text) => {
    expect(decodeClientMessage(text, { tty: true }).kind).toBe("ignored");
    expect(decodeClientMessage(text, plain).kind).toBe("ignored");
  });

  it("reads an exit under either name", () => {
    expect(decodeServerMessage('{"type":"exit","exit_code":3}', { tty: true })).toMatchObject({ text: { exit_code: 3, code: 3 } });
    expect(decodeServerMessage('{"type":"exit","code":4}', { tty: true })).toMatchObject({ text: { exit_code: 4 } });
    expect(decodeServerMessage('{"type":"exit"}', { tty: true }).kind).toBe("ignored");
  });

  it("reads a session_info with missing or odd fields", () => {
    expect(decodeServerMessage('{"type":"session_info","session_id":7,"tty":true}', plain)).toEqual({
      kind: "text",
      text: { type: "session_info", session_id: "7", command: "", created: 0, cols: 0, rows: 0, is_owner: false, tty: true },
    });
  });
});

describe("ends", () => {
  it("[API-16] a signal is 128 + its number", () => {
    expect(exitByte({ code: null, signal: "TERM" })).toBe(143);
    expect(exitByte({ code: null, signal: "KILL" })).toBe(137);
    expect(exitByte({ code: null, signal: "RTMIN" })).toBe(128);
    expect(exitByte({ code: 7, signal: null })).toBe(7);
  });

  it("[API-16] the close code carries a terminal's exit code", () => {
    expect(closeCodeAfterExit(0, { tty: true })).toBe(1000);
    expect(closeCodeAfterExit(3, { tty: true })).toBe(4003);
    expect(closeCodeAfterExit(255, { tty: true })).toBe(4255);
    expect(closeCodeAfterExit(3, { tty: false })).toBe(1000);
  });

  it("knows signals with and without SIG only", () => {
    expect(signalName("sigusr1")).toBe("USR1");
    for (const none of ["SIG", "", "TERM ", "SIGSIGTERM", "9", "constructor"]) expect(signalName(none)).toBeUndefined();
  });
});
