import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { INPUT_HELD_BYTES_MAX, InputQueue } from "./input-queue.ts";

/** Everything a new link would send from `offset` on. */
function rest(queue: InputQueue, offset: number): number[] {
  const bytes: number[] = [];
  for (let chunk = queue.from(offset); chunk; chunk = queue.from(offset)) {
    expect(chunk.offset).toBe(offset);
    bytes.push(...chunk.data);
    offset += chunk.data.length;
  }
  return bytes;
}

describe("input queue", () => {
  test("[EXEC-4] whatever was not taken is sent again from where it was taken", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 50 }), fc.nat(60))), (steps) => {
        const queue = new InputQueue();
        const all: number[] = [];
        let taken = 0;
        for (const [data, more] of steps) {
          queue.push(data);
          all.push(...data);
          taken = Math.min(all.length, taken + more);
          queue.taken(taken);
          expect(rest(queue, taken)).toEqual(all.slice(taken));
        }
      }),
    );
  });

  test("[EXEC-4] a guest that claims more than was sent is not believed", () => {
    const queue = new InputQueue();
    queue.push(Buffer.from("abc"));
    queue.taken(1_000_000);
    expect(rest(queue, 0)).toEqual([...Buffer.from("abc")]);
  });

  test("[EXEC-4] a writer waits at the bound until the command takes something", async () => {
    const queue = new InputQueue();
    queue.push(new Uint8Array(INPUT_HELD_BYTES_MAX));
    let free = false;
    const waiting = queue.room().then(() => {
      free = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(free).toBe(false);
    queue.taken(INPUT_HELD_BYTES_MAX);
    await waiting;
    expect(free).toBe(true);
  });

  test("[EXEC-4] bytes after the end of input are dropped", () => {
    const queue = new InputQueue();
    queue.push(Buffer.from("a"));
    expect(queue.end()).toBe(true);
    expect(queue.end()).toBe(false);
    expect(queue.push(Buffer.from("b"))).toBe(false);
    expect(queue.length).toBe(1);
  });

  test("[EXEC-15] input that comes before the guest's first word after a restart follows what was taken", async () => {
    const queue = new InputQueue({ known: false });
    queue.push(Buffer.from("abc"));
    queue.begin(1000);
    await queue.known;
    queue.push(Buffer.from("d"));
    expect([queue.takenBytes, queue.length]).toEqual([1000, 1004]);
    expect(rest(queue, 1000)).toEqual([...Buffer.from("abcd")]);
  });
});
