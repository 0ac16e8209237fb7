import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { InputLedger } from "./input-ledger.ts";
import { INPUT_HELD_BYTES_MAX, InputQueue } from "./input-queue.ts";

function freshQueue(): InputQueue {
  return new InputQueue({ ledger: new InputLedger(), known: true });
}

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
        const queue = freshQueue();
        const all: number[] = [];
        let taken = 0;
        for (const [data, more] of steps) {
          queue.push(data, "a");
          all.push(...data);
          taken = Math.min(all.length, taken + more);
          queue.taken(taken);
          expect(rest(queue, taken)).toEqual(all.slice(taken));
        }
      }),
    );
  });

  test("[EXEC-4] a guest that claims more than was sent is not believed", () => {
    const queue = freshQueue();
    queue.push(Buffer.from("abc"), "a");
    queue.taken(1_000_000);
    expect(rest(queue, 0)).toEqual([...Buffer.from("abc")]);
  });

  test("[EXEC-4] a writer waits at the bound until the command takes something", async () => {
    const queue = freshQueue();
    queue.push(new Uint8Array(INPUT_HELD_BYTES_MAX), "a");
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
    const queue = freshQueue();
    queue.push(Buffer.from("a"), "a");
    expect(queue.end()).toBe(true);
    expect(queue.end()).toBe(false);
    expect(queue.push(Buffer.from("b"), "a")).toBe(false);
    expect(queue.length).toBe(1);
  });

  test("[EXEC-15] after a restart input goes on behind what the guest has, which it still takes by itself", async () => {
    const queue = new InputQueue({ ledger: new InputLedger(), known: false });
    queue.begin({ taken: 1000, received: 1500, ended: false });
    await queue.known;
    queue.push(Buffer.from("abcd"), "");
    expect([queue.takenBytes, queue.length, queue.of("")]).toEqual([1000, 1504, { accepted: 1504, taken: 1000 }]);
    expect(rest(queue, 1500)).toEqual([...Buffer.from("abcd")]);
    queue.taken(1501);
    expect(queue.of("")).toEqual({ accepted: 1504, taken: 1501 });
  });

  test("[EXEC-4] after a restart an input that had ended takes nothing more", () => {
    const queue = new InputQueue({ ledger: new InputLedger(), known: false });
    queue.begin({ taken: 3, received: 5, ended: true });
    expect(queue.push(Buffer.from("late"), "a")).toBe(false);
    expect([queue.ended, queue.length]).toEqual([true, 5]);
  });
});
