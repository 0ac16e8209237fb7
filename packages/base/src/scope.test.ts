import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Scope, ScopeError } from "./scope.ts";

describe("Scope", () => {
  it("gives back in reverse order, each once", async () => {
    const order: number[] = [];
    const scope = new Scope("test");
    for (const step of [1, 2, 3]) scope.defer(`step ${step}`, () => void order.push(step));
    await scope[Symbol.asyncDispose]();
    await scope[Symbol.asyncDispose]();
    expect(order).toEqual([3, 2, 1]);
  });

  it("runs every step whichever of them fail, and reports all failures", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.boolean(), { maxLength: 8 }), async (failing) => {
        const ran: number[] = [];
        const scope = new Scope("test");
        failing.forEach((fails, index) =>
          scope.defer(`step ${index}`, async () => {
            ran.push(index);
            if (fails) throw new Error(`broken ${index}`);
          }),
        );
        const failures = failing.filter(Boolean).length;
        const error = await scope[Symbol.asyncDispose]().then(
          () => undefined,
          (reason: unknown) => reason,
        );
        expect(ran).toEqual(failing.map((_, index) => index).reverse());
        if (failures === 0) expect(error).toBeUndefined();
        else expect((error as ScopeError).errors).toHaveLength(failures);
      }),
      { numRuns: 50 },
    );
  });

  it("names what it could not give back and keeps the cause", async () => {
    const scope = new Scope("boot");
    const cause = new Error("busy");
    scope.defer("tap 7", () => {
      throw cause;
    });
    const closing = scope[Symbol.asyncDispose]();
    await expect(closing).rejects.toThrow(ScopeError);
    await expect(closing).rejects.toMatchObject({
      message: "closing boot: 1 step(s) failed",
      errors: [{ message: "giving back tap 7", cause }],
    });
  });

  it("hands its steps over, then closes empty", async () => {
    const order: string[] = [];
    let owner: Scope;
    {
      await using scope = new Scope("making");
      scope.defer("it", () => void order.push("given back"));
      owner = scope.move();
    }
    expect(order).toEqual([]);
    await owner[Symbol.asyncDispose]();
    expect(order).toEqual(["given back"]);
  });

  it("runs a step added after it closed at once", async () => {
    const order: string[] = [];
    const scope = new Scope("late");
    await scope[Symbol.asyncDispose]();
    scope.defer("late", () => void order.push("late"));
    scope.defer("broken", () => {
      throw new Error("nobody listens");
    });
    expect(order).toEqual(["late"]);
  });

  it("registers a disposable and returns it", async () => {
    let closed = 0;
    const resource = { [Symbol.asyncDispose]: async () => void (closed += 1) };
    const scope = new Scope("use");
    expect(scope.use("resource", resource)).toBe(resource);
    await scope[Symbol.asyncDispose]();
    expect(closed).toBe(1);
  });
});
