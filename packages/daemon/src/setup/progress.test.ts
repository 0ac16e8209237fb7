import { type Clock } from "@sprited/base";
import { describe, expect, it } from "vitest";
import { formatDuration, openProgress, renderStep, type Screen } from "./progress.ts";

/** A clock that only moves when told to; sleepers wake in order. */
class HandClock implements Clock {
  #now = 0;
  #sleepers: { at: number; wake: () => void }[] = [];

  nowMs(): number {
    return this.#now;
  }
  monotonicMs(): number {
    return this.#now;
  }
  async sleep(ms: number, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#sleepers.push({ at: this.#now + ms, wake: resolve });
      options.signal?.addEventListener("abort", () => reject(options.signal?.reason));
    });
  }
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      const next = this.#sleepers.filter((sleeper) => sleeper.at <= until).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#sleepers = this.#sleepers.filter((sleeper) => sleeper !== next);
      this.#now = next.at;
      next.wake();
    }
    this.#now = until;
  }
}

function open(isTty: boolean) {
  const clock = new HandClock();
  let text = "";
  const screen: Screen = { write: (more) => (text += more), isTty, columns: 80 };
  return { clock, progress: openProgress(screen, clock), text: () => text };
}

describe("renderStep", () => {
  it("draws a bar when the share is known and a spinner when it is not", () => {
    const view = { title: "image", fraction: 0.5, detail: "unpacking", elapsedMs: 2000 };
    expect(renderStep(view, 120)).toBe(`▸ image  [${"█".repeat(12)}${"·".repeat(12)}]  50 %  2.0 s  unpacking`);
    expect(renderStep({ ...view, fraction: undefined }, 120)).toMatch(/^▸ image {2}[⠋-⠿] {2}2\.0 s {2}unpacking$/u);
  });

  it("never exceeds the width and never draws beyond the ends", () => {
    for (const fraction of [-1, 0, 0.999, 1, 7]) {
      const line = renderStep({ title: "t".repeat(50), fraction, detail: "d".repeat(200), elapsedMs: 1 }, 60);
      expect([...line]).toHaveLength(60);
    }
    expect(renderStep({ title: "x", fraction: 7, detail: "", elapsedMs: 0 }, 80)).toContain("100 %");
  });
});

describe("formatDuration", () => {
  it.each([
    [400, "0.4 s"],
    [75_400, "75 s"],
    [185_000, "3 min 05 s"],
  ])("writes %d ms as %s", (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });
});

describe("openProgress", () => {
  it("says nothing of a step that is over at once", async () => {
    const { progress, text } = open(false);
    expect(await progress.step("quick", async () => 7)).toBe(7);
    expect(text()).toBe("");
    expect(progress.shown).toBe(0);
  });

  it("writes plain lines into a log: begin, sign of life, end with time", async () => {
    const { clock, progress, text } = open(false);
    const { promise, resolve } = Promise.withResolvers<void>();
    const step = progress.step("image default", async (onProgress) => {
      onProgress({ step: "build", fraction: 0.25, detail: "unpacking git" });
      await promise;
    });
    await clock.advance(16_000);
    resolve();
    await step;
    expect(text()).toBe("▸ image default\n  image default: 25 %  15 s  unpacking git\n✓ image default  16 s\n");
    expect(progress.shown).toBe(1);
  });

  it("redraws one line on a terminal", async () => {
    const { clock, progress, text } = open(true);
    const { promise, resolve } = Promise.withResolvers<void>();
    const step = progress.step("image", () => promise);
    await clock.advance(1000);
    resolve();
    await step;
    expect(text().match(/\n/g)).toHaveLength(1);
    expect(text().endsWith("\r\u001B[2K✓ image  1.0 s\n")).toBe(true);
  });

  it("marks a failed step, however short, and passes the error on", async () => {
    const { progress, text } = open(false);
    await expect(progress.step("pool", async () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(text()).toMatch(/^✗ pool/);
  });
});
