import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { addCounts, closingLine, countCheck, countVitest, failureLines } from "./summary.ts";

function report(over: object = {}): string {
  return JSON.stringify({
    success: true,
    numPassedTests: 3,
    numFailedTests: 0,
    numPendingTests: 1,
    numTodoTests: 0,
    testResults: [
      {
        name: "a.test.ts",
        status: "passed",
        message: "",
        assertionResults: [
          { fullName: "works", status: "passed" },
          { fullName: "needs a VM", status: "skipped" },
        ],
      },
    ],
    ...over,
  });
}

describe("countVitest", () => {
  it("takes the numbers of the report and names what did not run", () => {
    expect(countVitest(report(), 0)).toEqual({ passed: 3, failed: 0, skipped: 1, skippedTests: ["needs a VM"], failures: [] });
    expect(countVitest(report({ success: false, numFailedTests: 2 }), 1)).toMatchObject({ passed: 3, failed: 2 });
  });

  it("counts a file that could not even be loaded as a failure", () => {
    const testResults = [{ name: "b.test.ts", status: "failed", message: "SyntaxError", assertionResults: [] }];
    expect(countVitest(report({ success: false, testResults }), 1)).toMatchObject({ passed: 3, failed: 1 });
  });

  it("keeps what failed, and says where and why in a few lines", () => {
    const testResults = [
      { name: "/root/b.test.ts", status: "failed", message: "SyntaxError", assertionResults: [] },
      {
        name: "/root/below/c.test.ts",
        status: "failed",
        assertionResults: [
          { fullName: "works", status: "passed", failureMessages: [] },
          {
            fullName: "[LINK-3] dials",
            status: "failed",
            failureMessages: [`\u001b[31mexpected 1\u001b[39m to be 3\n${"    at x\n".repeat(50)}`],
          },
        ],
      },
    ];
    const { failures } = countVitest(report({ success: false, numFailedTests: 1, testResults }), 1);
    const [file, test] = failures.map((failure) => failureLines(failure, "/root"));
    expect(file).toEqual(["✗ b.test.ts", "    SyntaxError"]);
    expect(test?.slice(0, 2)).toEqual(["✗ below/c.test.ts > [LINK-3] dials", "    expected 1 to be 3"]);
    expect(test?.length).toBeLessThan(10);
  });

  it("never counts a failed run as free of failures", () => {
    expect(countVitest(report(), 1).failed).toBe(1);
    expect(countVitest(report({ success: false }), 0).failed).toBe(1);
    for (const nothing of [undefined, "", "{", "{}", '{"success":true}']) expect(countVitest(nothing, 0).failed).toBe(1);
  });
});

describe("the whole run", () => {
  it("adds up every stage", () => {
    const counts = fc.record({ passed: fc.nat(1000), failed: fc.nat(10), skipped: fc.nat(10) });
    fc.assert(
      fc.property(fc.array(counts), (all) => {
        const sum = addCounts(all);
        for (const key of ["passed", "failed", "skipped"] as const) expect(sum[key]).toBe(all.reduce((total, one) => total + one[key], 0));
      }),
    );
    expect(addCounts([countCheck(0), countCheck(2), countVitest(report(), 0)])).toEqual({ passed: 4, failed: 1, skipped: 1 });
  });

  it("closes with one line; skips only when there are any", () => {
    expect(closingLine({ passed: 12, failed: 0, skipped: 0 })).toBe("12 passed, 0 failed");
    expect(closingLine({ passed: 1, failed: 2, skipped: 3 })).toBe("1 passed, 2 failed, 3 skipped");
  });
});
