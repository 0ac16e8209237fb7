import { describe, expect, it } from "vitest";
import { after, DeadlineError, every, sleep, systemClock, waitFor, withDeadline } from "./clock.ts";

describe("sleep", () => {
  it("takes its time", async () => {
    const started = systemClock.monotonicMs();
    await systemClock.sleep(30);
    expect(systemClock.monotonicMs() - started).toBeGreaterThan(25);
  });

  it("rejects with the signal's own reason, before and during the wait", async () => {
    const reason = new Error("changed my mind");
    await expect(sleep(10_000, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const wait = sleep(10_000, { signal: controller.signal });
    controller.abort(reason);
    await expect(wait).rejects.toBe(reason);
  });
});

describe("withDeadline", () => {
  it("passes on the result or the error of the work", async () => {
    expect(await withDeadline("work", { timeoutMs: 1000 }, async () => 7)).toBe(7);
    await expect(withDeadline("work", { timeoutMs: 1000 }, async () => Promise.reject(new Error("no")))).rejects.toThrow("no");
  });

  it("ends work that ignores its signal, names it and aborts the signal", async () => {
    let seen: AbortSignal | undefined;
    const work = withDeadline("the answer", { timeoutMs: 20 }, async (signal) => {
      seen = signal;
      await new Promise(() => undefined);
    });
    await expect(work).rejects.toThrow(DeadlineError);
    await expect(work).rejects.toMatchObject({ what: "the answer", timeoutMs: 20 });
    expect(seen?.aborted).toBe(true);
  });

  it("rejects with the caller's reason when the caller gives up", async () => {
    const reason = new Error("client gone");
    const controller = new AbortController();
    const work = withDeadline("work", { timeoutMs: 10_000, signal: controller.signal }, async () => new Promise(() => undefined));
    controller.abort(reason);
    await expect(work).rejects.toBe(reason);
    await expect(withDeadline("work", { timeoutMs: 1000, signal: controller.signal }, async () => 1)).rejects.toBe(reason);
  });
});

describe("waitFor", () => {
  it("polls until there is something and returns it, also a falsy value", async () => {
    let calls = 0;
    const value = await waitFor("zero", { timeoutMs: 1000, everyMs: 1 }, () => {
      calls += 1;
      return calls === 3 ? 0 : undefined;
    });
    expect([value, calls]).toEqual([0, 3]);
  });

  it("gives up with the name of what it waited for", async () => {
    await expect(waitFor("a miracle", { timeoutMs: 15, everyMs: 5 }, () => false)).rejects.toThrow("a miracle: nothing within 15 ms");
  });

  it("stops with the signal's reason and passes on what the probe throws", async () => {
    const reason = new Error("stop");
    await expect(waitFor("x", { timeoutMs: 1000, signal: AbortSignal.abort(reason) }, () => false)).rejects.toBe(reason);
    await expect(waitFor("x", { timeoutMs: 1000 }, async () => Promise.reject(new Error("probe broke")))).rejects.toThrow("probe broke");
  });
});

describe("after and every", () => {
  it("run once and repeatedly, and no more once disposed", async () => {
    const seen: string[] = [];
    after(5, () => seen.push("once"));
    after(5, () => seen.push("never"))[Symbol.dispose]();
    const ticks = every(5, () => seen.push("tick"));
    await waitFor("two ticks", { timeoutMs: 2000, everyMs: 2 }, () => seen.filter((one) => one === "tick").length >= 2);
    ticks[Symbol.dispose]();
    const count = seen.length;
    await sleep(20);
    expect(seen).toHaveLength(count);
    expect(seen.filter((one) => one !== "tick")).toEqual(["once"]);
  });
});
