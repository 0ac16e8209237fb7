import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PostedInput } from "./posted-input.ts";

const MIB = 1024 * 1024;

/** A source that gives `pieces` of so many bytes and counts how many were taken. */
function source(pieces: number, bytes: number): { data: AsyncIterable<Uint8Array>; taken: () => number } {
  let taken = 0;
  async function* give(): AsyncGenerator<Uint8Array> {
    for (; taken < pieces; taken += 1) yield new Uint8Array(bytes).fill(taken);
  }
  return { data: give(), taken: () => taken };
}

/** Lets everything that can happen happen. */
async function settle(): Promise<void> {
  for (let round = 0; round < 20; round++) await new Promise((resolve) => setImmediate(resolve));
}

/** A body that takes everything at once. */
class Body {
  readonly got: Uint8Array[] = [];
  readonly over = new AbortController();
  readonly ended: Promise<boolean>;

  constructor(input: PostedInput, from: number) {
    this.ended = input.sendTo({ from, send: async (piece) => void this.got.push(piece.slice()) }, this.over.signal);
    this.ended.catch(() => {}); // looked at where it matters
  }

  get bytes(): number {
    return this.got.reduce((sum, piece) => sum + piece.length, 0);
  }
}

describe("PostedInput", () => {
  it("[HTTP-12] reaches a server that counts whole and once, wherever the bodies are cut and begin anew", async () => {
    const rounds = fc.array(fc.record({ took: fc.nat(40), acknowledged: fc.nat(40), waits: fc.boolean() }), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 120 }), rounds, async (whole, cuts) => {
        async function* pieces(): AsyncGenerator<Uint8Array> {
          for (let at = 0; at < whole.length; at += 7) yield whole.subarray(at, at + 7);
        }
        const input = new PostedInput(pieces(), { isKept: true });
        const server: number[] = [];
        let safe = 0;
        for (const { took, acknowledged, waits } of [...cuts, { took: Infinity, acknowledged: 0, waits: true }]) {
          const from = waits ? server.length : input.offset;
          let left = took;
          let at = from;
          const over = new AbortController();
          const send = async (piece: Uint8Array): Promise<void> => {
            for (const byte of piece) {
              if (left-- <= 0) return over.abort();
              if (at++ >= server.length) server.push(byte);
            }
          };
          const isWhole = await input.sendTo({ from, send }, over.signal);
          input.learn("counts");
          safe = Math.min(server.length, Math.max(safe, safe + acknowledged));
          input.acknowledge(safe);
          if (isWhole) break;
        }
        expect(server).toEqual([...whole]);
        expect(input.isGivenUp).toBe(false);
      }),
      { numRuns: 100 },
    );
  });

  it("[HTTP-12] at most 1 MiB is kept for a server that counts; what it acknowledges makes room", async () => {
    const { data, taken } = source(64, MIB / 8);
    const input = new PostedInput(data, { isKept: true });
    input.learn("counts");
    const body = new Body(input, 0);
    await settle();
    expect(taken()).toBeLessThanOrEqual(9);
    input.acknowledge(MIB);
    await settle();
    expect([input.offset, body.bytes > MIB, taken() <= 17]).toEqual([MIB, true, true]);
    body.over.abort();
    expect(await body.ended).toBe(false);
    expect(input.isGivenUp).toBe(false);
  });

  it("[HTTP-13] more than 16 MiB for a server that says nothing is let go, until it acknowledges it", async () => {
    const { data } = source(40, MIB / 2);
    const input = new PostedInput(data, { isKept: true });
    const body = new Body(input, 0);
    expect(await body.ended).toBe(true);
    expect([body.bytes, input.isGivenUp]).toEqual([20 * MIB, true]);
    await expect(new Body(input, 0).ended).rejects.toThrow(RangeError);
    input.learn("counts");
    input.acknowledge(20 * MIB);
    expect(input.isGivenUp).toBe(false);
  });

  it("[CLI-28] a server that does not count gets everything without delay", async () => {
    const { data } = source(40, MIB / 2);
    const input = new PostedInput(data, { isKept: true });
    input.learn("does not count");
    const body = new Body(input, 0);
    expect(await body.ended).toBe(true);
    expect([body.bytes, input.isGivenUp]).toEqual([20 * MIB, false]);
  });

  it("[CLI-28] a source that cannot be read counts as ended", async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from("one");
      throw new Error("EIO");
    }
    const body = new Body(new PostedInput(broken(), { isKept: true }), 0);
    expect(await body.ended).toBe(true);
    expect(Buffer.concat(body.got).toString()).toBe("one");
  });
});
