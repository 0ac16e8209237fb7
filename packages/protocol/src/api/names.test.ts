import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GUEST_LIMITS } from "../guest/index.ts";
import { API_LIMITS } from "./limits.ts";
import { commandProblem, environmentProblem, labelsProblem, organizationSlugProblem, spriteNameProblem } from "./names.ts";

describe("sprite names", () => {
  it.each(["a", "0", "a-b", "my-sprite-1", "a".repeat(63), "a--b"])("[API-11] takes %s", (name) => {
    expect(spriteNameProblem(name)).toBeUndefined();
  });

  it.each([
    ["", /empty/],
    ["a".repeat(64), /at most 63 characters, this one has 64/],
    ["Hello", /upper-case/],
    ["a b", /contains " "/],
    ["a_b", /contains "_"/],
    ["../etc", /contains "\."/],
    ["a/b", /contains "\/"/],
    ["naïve", /contains "ï"/],
    ["😀", /contains "😀"/],
    ["a\0b", /contains "\\u0000"/],
    ["-a", /begins with/],
    ["a-", /ends with/],
    ["a.b", /contains "\."/],
  ])("[API-11] refuses %j and says which rule was broken", (name, rule) => {
    expect(spriteNameProblem(name)).toMatch(rule);
  });

  it("[API-11] takes exactly the DNS labels", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ maxLength: 70 }), fc.stringMatching(/^[a-zA-Z0-9-]{0,70}$/)), (name) => {
        expect(spriteNameProblem(name) === undefined).toBe(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name));
      }),
    );
  });
});

describe("other rules", () => {
  it("a slug is a shorter name", () => {
    expect(organizationSlugProblem("acme")).toBeUndefined();
    expect(organizationSlugProblem("a".repeat(33))).toMatch(/at most 32/);
  });

  it("labels are printable, bounded in number and length", () => {
    expect(labelsProblem(["team:web", "größe=XL", "😀"])).toBeUndefined();
    expect(labelsProblem([" "])).toMatch(/empty/);
    expect(labelsProblem(["a\nb"])).toMatch(/control/);
    expect(labelsProblem(["x".repeat(129)])).toMatch(/at most 128/);
    expect(labelsProblem(Array.from({ length: 65 }, String))).toMatch(/at most 64/);
  });

  it("an environment has proper names and bounded values, which are never quoted", () => {
    expect(environmentProblem({ A: "", "odd-name.1": "x=y" })).toBeUndefined();
    expect(environmentProblem({ "": "x" })).toMatch(/name/);
    expect(environmentProblem({ "A=B": "x" })).toMatch(/"="/);
    expect(environmentProblem({ A: "secret\0" })).not.toContain("secret");
    expect(environmentProblem({ A: "x".repeat(API_LIMITS.environmentBytesMax - '{"A":""}'.length) })).toBeUndefined();
    expect(environmentProblem({ A: "x".repeat(API_LIMITS.environmentBytesMax) })).toMatch(/bytes/);
    expect(environmentProblem({ A: "ä".repeat(20_000), B: "ä".repeat(20_000) })).toMatch(/bytes/);
    expect(environmentProblem(Object.fromEntries(Array.from({ length: 1025 }, (_, i) => [`V${i}`, ""])))).toMatch(/at most 1024/);
  });

  it("[BOOT-1] the longest environment leaves room for the rest of the bootstrap line", () => {
    expect(API_LIMITS.environmentBytesMax + 2048).toBeLessThan(GUEST_LIMITS.bootLineBytesMax);
  });

  it("a command is bounded in arguments, in one argument and as a whole", () => {
    expect(commandProblem(["sh", "-c", "x".repeat(100_000)], { A: "y".repeat(1000) })).toBeUndefined();
    expect(commandProblem(["x".repeat(131_072)], {})).toMatch(/131071/);
    expect(
      commandProblem(
        Array.from({ length: 6 }, () => "x".repeat(100_000)),
        {},
      ),
    ).toMatch(/together/);
    expect(commandProblem(["a\0"], {})).toMatch(/NUL/);
    expect(
      commandProblem(
        Array.from({ length: 20_000 }, () => "x"),
        {},
      ),
    ).toMatch(/at most 16384/);
  });
});
