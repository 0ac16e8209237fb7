import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { admit, incarnationOf, next, type SpriteEvent, type SpriteRequest, type SpriteState } from "./lifecycle.ts";
import { statusOf } from "./view.ts";

const incarnation = fc.constantFrom("i1", "i2", "i3");
const event: fc.Arbitrary<SpriteEvent> = fc.oneof(
  fc.constant<SpriteEvent>({ type: "created" }),
  fc.constant<SpriteEvent>({ type: "delete_begun" }),
  fc.constant<SpriteEvent>({ type: "broken", reason: "test" }),
  ...(["wake_begun", "woken", "wake_failed", "stop_begun", "vm_gone"] as const).map((type) =>
    incarnation.map((id): SpriteEvent => ({ type, incarnation: id })),
  ),
);

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
    const states: SpriteState[] = (["waking", "running", "stopping"] as const).map((kind) => ({ kind, incarnation: "i1" }));
    for (const state of states) {
      for (const type of ["woken", "wake_failed", "stop_begun", "vm_gone"] as const) {
        expect(next(state, { type, incarnation: "i2" })).toBe(state);
      }
    }
  });

  test("[LIFE-6] a VM that is gone leaves a living sprite cold", () => {
    for (const kind of ["waking", "running", "stopping"] as const) {
      expect(next({ kind, incarnation: "i1" }, { type: "vm_gone", incarnation: "i1" })).toEqual({ kind: "cold" });
    }
    expect(next({ kind: "deleting", incarnation: "i1" }, { type: "vm_gone", incarnation: "i1" })).toEqual({
      kind: "deleting",
      incarnation: undefined,
    });
  });

  test("[LIFE-4] whatever happens, a state that speaks of a VM names its incarnation, and only one that was begun", () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), (events) => {
        let state: SpriteState = { kind: "creating" };
        const begun = new Set<string>();
        for (const input of events) {
          if (input.type === "wake_begun" && state.kind === "cold") begun.add(input.incarnation);
          state = next(state, input);
          const id = incarnationOf(state);
          if (state.kind === "waking" || state.kind === "running" || state.kind === "stopping") expect(id).toBeDefined();
          if (id !== undefined) expect(begun).toContain(id);
          expect(["cold", "running"]).toContain(statusOf(state));
        }
      }),
    );
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

  test("[LIFE-8] requests meet the answer the table promises", () => {
    const cases: [SpriteState, SpriteRequest, string][] = [
      [{ kind: "cold" }, "stop", "done"],
      [{ kind: "cold" }, "wake", "act"],
      [{ kind: "cold" }, "delete", "act"],
      [{ kind: "running", incarnation: "i1" }, "wake", "done"],
      [{ kind: "running", incarnation: "i1" }, "stop", "act"],
      [{ kind: "stopping", incarnation: "i1" }, "wake", "act"],
      [{ kind: "creating" }, "delete", "deny"],
      [{ kind: "deleting", incarnation: undefined }, "wake", "deny"],
      [{ kind: "deleting", incarnation: undefined }, "delete", "act"],
      [{ kind: "failed", reason: "x", incarnation: undefined }, "wake", "deny"],
      [{ kind: "failed", reason: "x", incarnation: undefined }, "delete", "act"],
    ];
    for (const [state, request, kind] of cases) expect(admit(state, request).kind, `${state.kind} ${request}`).toBe(kind);
  });
});
