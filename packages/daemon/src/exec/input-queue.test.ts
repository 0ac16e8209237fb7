import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { InputQueue } from "./input-queue.ts";
import { SESSION_HELD_BYTES_MAX } from "./output-log.ts";

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
          const pending = queue.pending();
          expect(pending.flatMap((chunk) => [...chunk.data])).toEqual(all.slice(taken));
          if (pending[0]) expect(pending[0].offset).toBe(taken);
        }
      }),
    );
  });

  test("[EXEC-4] a guest that claims more than was sent is not believed", () => {
    const queue = new InputQueue();
    queue.push(Buffer.from("abc"));
    queue.taken(1_000_000);
    expect(queue.pending()).toHaveLength(1);
  });

  test("[EXEC-4] a writer waits at the bound until the command takes something", async () => {
    const queue = new InputQueue();
    queue.push(new Uint8Array(SESSION_HELD_BYTES_MAX));
    let free = false;
    const waiting = queue.room().then(() => {
      free = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(free).toBe(false);
    queue.taken(10);
    await waiting;
    expect(free).toBe(true);
  });

  test("[EXEC-4] bytes after the end of input are dropped", () => {
    const queue = new InputQueue();
    queue.push(Buffer.from("a"));
    expect(queue.end()).toBe(true);
    expect(queue.end()).toBe(false);
    expect(queue.push(Buffer.from("b"))).toBeUndefined();
    expect(queue.length).toBe(1);
  });
});
