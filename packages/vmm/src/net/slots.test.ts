/** The pool of slots over a builder that only keeps books. */
import { ignore, silentLogger, waitFor } from "@sprited/base";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { VmmError } from "../errors.ts";
import type { NetworkSlot } from "./network.ts";
import { type SlotBuilder, SlotPool } from "./slots.ts";

/** Keeps the numbers that exist, and refuses what a kernel would refuse. */
class BookBuilder implements SlotBuilder {
  readonly problems = [];
  readonly made = new Set<number>();
  readonly busy = new Set<number>();
  readonly damaged = new Set<number>();
  makes = 0;
  removed: number[] = [];
  left = 0;
  failure: VmmError | undefined;
  /** When set, nothing is made before it resolves. */
  gate: Promise<void> | undefined;

  describe(index: number): NetworkSlot {
    const host = `10.118.0.${index}`;
    return { index, netnsPath: `/n/${index}`, managementTap: "m", userTap: "u", agentAddress: { host, port: 1 }, uid: index, gid: index };
  }

  async make(indices: readonly number[]): Promise<void> {
    await this.gate;
    this.makes += 1;
    await Promise.resolve();
    if (this.failure) throw this.failure;
    for (const index of indices) {
      if (this.made.has(index)) throw new Error(`${index} exists`);
      this.made.add(index);
    }
  }

  async remove(indices: readonly number[]): Promise<void> {
    await Promise.resolve();
    for (const index of indices) {
      this.made.delete(index);
      this.removed.push(index);
    }
  }

  async repair(index: number): Promise<boolean> {
    return Promise.resolve(this.made.has(index) && !this.damaged.has(index));
  }

  async occupied(indices: readonly number[]): Promise<number[]> {
    return Promise.resolve(indices.filter((index) => this.busy.has(index)));
  }

  async refresh(): Promise<void> {}

  async leave(): Promise<void> {
    this.left += 1;
  }
}

function poolOf(options: { builder?: BookBuilder; found?: number[]; spare?: number; max?: number } = {}): {
  pool: SlotPool;
  builder: BookBuilder;
} {
  const builder = options.builder ?? new BookBuilder();
  for (const index of options.found ?? []) builder.made.add(index);
  const pool = new SlotPool({ builder, found: options.found ?? [], spare: options.spare ?? 2, max: options.max ?? 8, log: silentLogger });
  return { pool, builder };
}

describe("spares", () => {
  it("[NET-6] a ready slot is taken without making one, and replaced behind the caller's back", async () => {
    const { pool, builder } = poolOf({ spare: 2 });
    await pool.settle();
    await waitFor("spares", { timeoutMs: 1000 }, () => builder.made.size === 2);
    await waitFor("an idle pool", { timeoutMs: 1000 }, () => builder.makes === 1);
    const slot = await pool.acquire();
    expect(builder.makes).toBe(1);
    expect(slot.index).toBe(0);
    await waitFor("a replacement", { timeoutMs: 1000 }, () => builder.made.size === 3);
  });

  it("[NET-6] callers of one moment share a batch and get different slots", async () => {
    const { pool, builder } = poolOf({ spare: 0 });
    const slots = await Promise.all(Array.from({ length: 8 }, async () => pool.acquire()));
    expect(new Set(slots.map((slot) => slot.index)).size).toBe(8);
    expect(builder.makes).toBe(1);
  });

  it("[NET-6] beyond the limit there is a typed error", async () => {
    const { pool } = poolOf({ spare: 2, max: 3 });
    const slots = await Promise.all([pool.acquire(), pool.acquire(), pool.acquire()]);
    await expect(pool.acquire()).rejects.toMatchObject({
      code: "vmm_network",
      message: expect.stringContaining("all 3 network slots are in use"),
    });
    await pool.release(slots[1]);
    expect((await pool.acquire()).index).toBe(slots[1].index);
  });

  it("[NET-6] a failure reaches everybody who waits, and the next caller tries again", async () => {
    const { pool, builder } = poolOf({ spare: 0 });
    builder.failure = new VmmError("vmm_network", "refused");
    const results = await Promise.allSettled([pool.acquire(), pool.acquire()]);
    expect(results.map((result) => result.status)).toEqual(["rejected", "rejected"]);
    builder.failure = undefined;
    await expect(pool.acquire()).resolves.toBeDefined();
  });

  it("[NET-6] a caller that gives up keeps no slot", async () => {
    const { pool, builder } = poolOf({ spare: 0, max: 1 });
    const gate = Promise.withResolvers<void>();
    builder.gate = gate.promise;
    const abort = new AbortController();
    const waiting = pool.acquire({ signal: abort.signal });
    const reason = new Error("gave up");
    abort.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    gate.resolve();
    await expect(pool.acquire()).resolves.toMatchObject({ index: 0 });
  });
});

describe("numbers", () => {
  it("[NET-7] a released slot is removed before its number comes back, the longest unused first", async () => {
    const { pool, builder } = poolOf({ spare: 0, max: 3 });
    const first = await pool.acquire();
    await pool.release(first);
    await waitFor("its end", { timeoutMs: 1000 }, () => builder.removed.includes(first.index));
    const next = [await pool.acquire(), await pool.acquire(), await pool.acquire()];
    expect(next.map((slot) => slot.index)).toEqual([1, 2, 0]);
    await expect(pool.release({ ...first, index: 7 })).rejects.toThrow("not taken");
  });

  it("[NET-7] no number is ever used twice at once, whatever is asked in whatever order", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 60 }),
        fc.integer({ min: 0, max: 3 }),
        async (moves, spare) => {
          const { pool, builder } = poolOf({ spare, max: 5 });
          const held: NetworkSlot[] = [];
          const pending: Promise<unknown>[] = [];
          for (const move of moves) {
            const slot = move < 4 ? held.shift() : undefined;
            if (slot) await pool.release(slot);
            else pending.push(pool.acquire().then((got) => held.push(got), ignore("none is left")));
            if (move === 9) await Promise.all(pending);
          }
          await Promise.all(pending);
          expect(new Set(held.map((slot) => slot.index)).size).toBe(held.length);
          expect(held.every((slot) => builder.made.has(slot.index))).toBe(true);
          expect(builder.made.size).toBeLessThanOrEqual(5);
          for (const slot of held) await pool.release(slot);
          await pool.close();
          expect([builder.made.size, builder.left]).toEqual([0, 1]);
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe("after a restart", () => {
  it("[NET-8] what is adopted stays, the rest goes with settle, numbers do not meet", async () => {
    const { pool, builder } = poolOf({ found: [0, 1, 2], spare: 0 });
    expect(await pool.adopt(1)).toMatchObject({ index: 1 });
    expect(await pool.adopt(5)).toBeUndefined();
    expect(await pool.adopt(1), "twice").toBeUndefined();
    await pool.settle();
    await waitFor("the rest to go", { timeoutMs: 1000 }, () => builder.removed.length === 2);
    expect([...builder.made]).toEqual([1]);
    expect((await pool.acquire()).index).toBe(3);
  });

  it("[NET-8] a slot that cannot be mended is not handed out but removed", async () => {
    const { pool, builder } = poolOf({ found: [0], spare: 0 });
    builder.damaged.add(0);
    expect(await pool.adopt(0)).toBeUndefined();
    await pool.settle();
    await waitFor("its end", { timeoutMs: 1000 }, () => builder.removed.includes(0));
  });

  it("[NET-8] a slot with a process in it survives a caller that acquires before adopting", async () => {
    const { pool, builder } = poolOf({ found: [0, 1], spare: 0 });
    builder.busy.add(0);
    expect((await pool.acquire()).index).toBe(2);
    await waitFor("the empty one to go", { timeoutMs: 1000 }, () => builder.removed.includes(1));
    expect(builder.removed).not.toContain(0);
    expect(await pool.adopt(0)).toMatchObject({ index: 0 });
  });

  it("[NET-8] closing removes what is free and keeps what is taken", async () => {
    const { pool, builder } = poolOf({ found: [4], spare: 2 });
    await pool.adopt(4);
    await pool.settle();
    await waitFor("spares", { timeoutMs: 1000 }, () => builder.made.size === 3);
    await pool.close();
    expect([[...builder.made], builder.left]).toEqual([[4], 0]);
    await expect(pool.acquire()).rejects.toMatchObject({ code: "vmm_network" });
  });
});
