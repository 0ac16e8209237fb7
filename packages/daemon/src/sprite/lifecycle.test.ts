import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { MemoryRecord } from "../machine/index.ts";
import { admit, incarnationOf, isLostAlike, lifeOf, next, type SpriteEvent, type SpriteRequest, type SpriteState } from "./lifecycle.ts";
import { statusOf } from "./view.ts";

const incarnation = fc.constantFrom("i1", "i2", "i3");
const memory: MemoryRecord = {
  build: "b",
  shape: { cpus: 1, memoryMib: 256 },
  storageGb: 10,
  network: true,
  system: "s",
  generation: 1,
  agentVersion: "1",
  ramOffset: 0,
  savedAtMs: 0,
};
const event: fc.Arbitrary<SpriteEvent> = fc.oneof(
  fc.constant<SpriteEvent>({ type: "created" }),
  fc.constant<SpriteEvent>({ type: "delete_begun" }),
  fc.constant<SpriteEvent>({ type: "broken", reason: "test" }),
  fc.constant<SpriteEvent>({ type: "memory_dropped", reason: "test" }),
  fc.constant<SpriteEvent>({ type: "memory_placed", life: "placed", memory }),
  ...(["wake_begun", "woken", "pause_begun", "resume_begun", "hibernate_begun", "stop_begun", "vm_gone"] as const).map((type) =>
    incarnation.map((id): SpriteEvent => ({ type, incarnation: id })),
  ),
  incarnation.map((id): SpriteEvent => ({ type: "paused", incarnation: id, atMs: 1 })),
  incarnation.map((id): SpriteEvent => ({ type: "hibernated", incarnation: id, memory })),
  fc.tuple(incarnation, fc.boolean()).map(([id, memoryKept]): SpriteEvent => ({ type: "wake_failed", incarnation: id, memoryKept })),
);
const of = { incarnation: "i1", life: "i1" };
const WITH_VM: SpriteState[] = [
  { kind: "waking", ...of },
  { kind: "waking", ...of, memory },
  { kind: "running", ...of },
  { kind: "pausing", ...of },
  { kind: "paused", ...of, sinceMs: 0 },
  { kind: "resuming", ...of },
  { kind: "hibernating", ...of },
  { kind: "hibernated", ...of, memory },
  { kind: "stopping", ...of },
];

describe("lifecycle", () => {
  test("[LIFE-1] only `created` leaves the state of an unacknowledged create, unless it breaks", () => {
    fc.assert(
      fc.property(event, (input) => {
        const after = next({ kind: "creating" }, input);
        if (input.type === "created") expect(after.kind).toBe("cold");
        else if (input.type === "broken") expect(after.kind).toBe("failed");
        else expect(after).toEqual({ kind: "creating" });
      }),
    );
  });

  test("[LIFE-5] an event of another incarnation changes nothing", () => {
    fc.assert(
      fc.property(fc.constantFrom(...WITH_VM), event, (state, input) => {
        if (!("incarnation" in input) || input.incarnation === "i1") return;
        expect(next(state, input)).toBe(state);
      }),
    );
  });

  test("[LIFE-6] a VM that is gone leaves a sprite cold, unless its memory is in its files", () => {
    for (const state of WITH_VM) {
      const after = next(state, { type: "vm_gone", incarnation: "i1", reason: "test" });
      if (state.kind === "hibernated") expect(after).toEqual({ ...state, incarnation: undefined });
      else expect(after).toEqual({ kind: "cold", lost: "test" });
    }
    expect(next({ kind: "deleting", incarnation: "i1" }, { type: "vm_gone", incarnation: "i1" })).toEqual({
      kind: "deleting",
      incarnation: undefined,
    });
  });

  test("[LIFE-4] whatever happens, a state that speaks of a VM names its incarnation, and only one that was begun", () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 80 }), (events) => {
        let state: SpriteState = { kind: "creating" };
        const begun = new Set<string>();
        for (const input of events) {
          if (input.type === "wake_begun") begun.add(input.incarnation);
          state = next(state, input);
          const id = incarnationOf(state);
          if (["waking", "running", "pausing", "paused", "resuming", "hibernating", "stopping"].includes(state.kind))
            expect(id).toBeDefined();
          if (id !== undefined) expect(begun).toContain(id);
        }
      }),
    );
  });

  test("[LIFE-24] a life begins with a boot or a placed memory and is kept by every step of sleep and wake", () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 80 }), (events) => {
        let state: SpriteState = { kind: "cold" };
        for (const input of events) {
          const before = lifeOf(state);
          state = next(state, input);
          const after = lifeOf(state);
          if (before === undefined && after !== undefined) expect(["wake_begun", "memory_placed"]).toContain(input.type);
          if (before !== undefined && after !== before)
            expect([undefined, ["vm_gone", "wake_failed", "memory_dropped", "delete_begun", "broken"].includes(input.type)]).toEqual([
              after,
              true,
            ]);
        }
      }),
    );
  });

  test("[LIFE-16] the memory counts as kept only after the VM stood still and it was saved", () => {
    for (const state of WITH_VM) {
      const after = next(state, { type: "hibernated", incarnation: "i1", memory });
      expect(after.kind === "hibernated", state.kind).toBe(state.kind === "hibernating" || state.kind === "hibernated");
    }
    // A VM that was not ended yet must not meet the one that resumes its memory.
    const hibernated: SpriteState = { kind: "hibernated", ...of, memory };
    expect(next(hibernated, { type: "wake_begun", incarnation: "i2" })).toBe(hibernated);
  });

  test("[LIFE-25] warm is what keeps its memory", () => {
    const words = Object.fromEntries(WITH_VM.map((state) => [`${state.kind}${"memory" in state ? " with memory" : ""}`, statusOf(state)]));
    expect(words).toEqual({
      waking: "cold",
      "waking with memory": "warm",
      running: "running",
      pausing: "running",
      paused: "warm",
      resuming: "warm",
      hibernating: "warm",
      "hibernated with memory": "warm",
      stopping: "running",
    });
  });

  test("[LIFE-9] nothing comes back from deleting but its own end or a broken invariant", () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 30 }), (events) => {
        let state: SpriteState = { kind: "deleting", incarnation: "i1" };
        for (const input of events) {
          if (input.type === "broken") continue;
          state = next(state, input);
          expect(state.kind).toBe("deleting");
        }
      }),
    );
  });

  test("[LIFE-31] states that are lost alike are cold without their VM, both of them", () => {
    let alike = 0;
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), (events) => {
        let before: SpriteState = { kind: "running", ...of };
        for (const input of events) {
          const after = next(before, input);
          if (isLostAlike(before, after)) {
            alike += Number(before.kind !== after.kind);
            const gone = { type: "vm_gone", incarnation: incarnationOf(after) ?? "" } as const;
            expect([next(before, gone).kind, next(after, gone).kind]).toEqual(["cold", "cold"]);
          }
          before = after;
        }
      }),
      { numRuns: 500 },
    );
    expect(alike).toBeGreaterThan(10);
    expect(isLostAlike({ kind: "waking", ...of }, { kind: "running", ...of })).toBe(false);
    expect(isLostAlike({ kind: "hibernating", ...of }, { kind: "hibernated", ...of, memory })).toBe(false);
    expect(isLostAlike({ kind: "paused", ...of, sinceMs: 0 }, { kind: "paused", ...of, incarnation: "i2", sinceMs: 0 })).toBe(false);
  });

  test("[LIFE-8] requests meet the answer the table promises", () => {
    const cases: [SpriteState, SpriteRequest, string][] = [
      [{ kind: "cold" }, "stop", "done"],
      [{ kind: "cold" }, "pause", "done"],
      [{ kind: "cold" }, "wake", "act"],
      [{ kind: "cold" }, "delete", "act"],
      [{ kind: "running", ...of }, "wake", "done"],
      [{ kind: "running", ...of }, "stop", "act"],
      [{ kind: "running", ...of }, "hibernate", "act"],
      [{ kind: "paused", ...of, sinceMs: 0 }, "pause", "done"],
      [{ kind: "paused", ...of, sinceMs: 0 }, "hibernate", "act"],
      [{ kind: "hibernated", ...of, memory }, "hibernate", "done"],
      [{ kind: "hibernated", ...of, memory }, "stop", "act"],
      [{ kind: "stopping", ...of }, "wake", "act"],
      [{ kind: "creating" }, "delete", "deny"],
      [{ kind: "deleting", incarnation: undefined }, "wake", "deny"],
      [{ kind: "deleting", incarnation: undefined }, "delete", "act"],
      [{ kind: "failed", reason: "x", incarnation: undefined }, "wake", "deny"],
      [{ kind: "failed", reason: "x", incarnation: undefined }, "delete", "act"],
    ];
    for (const [state, request, kind] of cases) expect(admit(state, request).kind, `${state.kind} ${request}`).toBe(kind);
  });
});
