/** A start over links that break: begun once, whatever the moment. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GuestError, type GuestLink, type SessionStream } from "../guest/index.ts";
import type { GuestLife } from "../sprite/index.ts";
import { beginSession } from "./begin.ts";

type Fate = "works" | "lost before" | "lost after";
const LOST = new GuestError("guest_link_lost", "the link broke");

/** An agent that takes an id once, over links whose fates a test decides. */
function agent(fates: readonly Fate[]) {
  const state = { begun: 0, links: 0, isKnown: false };
  const stream = {} as SessionStream;
  const link = (): GuestLink => {
    const fate = fates[state.links] ?? "works";
    state.links += 1;
    const start = async (): Promise<SessionStream> => {
      if (fate === "lost before") throw LOST;
      if (state.isKnown) throw new GuestError("guest_session_exists", "taken");
      state.isKnown = true;
      state.begun += 1;
      if (fate === "lost after") throw LOST;
      return stream;
    };
    const attach = async (): Promise<SessionStream> => {
      if (fate !== "works") throw LOST;
      return stream;
    };
    return { startSession: start, attachSession: attach } as unknown as GuestLink;
  };
  const life = { link: async () => link() } as unknown as GuestLife;
  const begin = (isGone = false) =>
    beginSession({ life, guest: link(), id: "1", start: {} as never, signal: undefined, isGone: async () => isGone });
  return { state, begin, stream };
}

describe("the start of a command", () => {
  test("[EXEC-9] over any few broken links the command begins exactly once and is followed", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom<Fate>("lost before", "lost after"), { maxLength: 3 }), async (fates) => {
        const { state, begin, stream } = agent(fates);
        expect(await begin()).toBe(stream);
        expect(state.begun).toBe(1);
      }),
      { numRuns: 15 },
    );
  });

  test("[EXEC-9] links that never hold end in the error, and at most one command began", async () => {
    const { state, begin } = agent(Array.from({ length: 10 }, () => "lost after" as const));
    await expect(begin()).rejects.toMatchObject({ code: expect.stringMatching(/guest_link_lost|guest_session_exists/) });
    expect(state.begun).toBe(1);
  });

  test("a life that is over is not asked again", async () => {
    const { state, begin } = agent(["lost before"]);
    await expect(begin(true)).rejects.toBe(LOST);
    expect(state.links).toBe(1);
  });

  test("an id that somebody else has is an error, not somebody else's session", async () => {
    const { state, begin } = agent([]);
    state.isKnown = true;
    await expect(begin()).rejects.toMatchObject({ code: "guest_session_exists" });
  });
});
