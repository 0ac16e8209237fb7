import { defineConfig } from "vitest/config";

// One project per kind of test; tools/run-tests.ts runs them in order. Tests with real VMs are
// named *.vm.test.ts wherever they lie, and run one file at a time: emulation needs the CPUs.

/** A kernel boot under emulation on a busy host, `ms`. */
const VM_TIMEOUT_MS = 300_000;

const REAL_VMS = "**/*.vm.test.ts";
const withVms = { fileParallelism: false, testTimeout: VM_TIMEOUT_MS, hookTimeout: VM_TIMEOUT_MS };

export default defineConfig({
  test: {
    projects: [
      { test: { name: "tidy", include: ["tests/tidy/**/*.test.ts"] } },
      {
        test: {
          name: "unit",
          include: ["packages/*/src/**/*.test.ts", "tools/**/*.test.ts", "lint/**/*.test.ts", "tests/{kit,perf}/**/*.test.ts"],
          exclude: [REAL_VMS, "**/contract/**"],
          testTimeout: 20_000,
        },
      },
      { test: { name: "contract", include: ["packages/*/src/**/contract/**/*.test.ts"], exclude: [REAL_VMS], testTimeout: 30_000 } },
      { test: { name: "compat", include: ["tests/compat/**/*.test.ts"] } },
      { test: { name: "integration", include: ["tests/integration/**/*.test.ts", `packages/${REAL_VMS}`], ...withVms } },
      { test: { name: "chaos", include: ["tests/chaos/**/*.test.ts"], testTimeout: 120_000 } },
      { test: { name: "conformance", include: ["tests/conformance/**/*.test.ts"], ...withVms } },
      { test: { name: "e2e", include: ["tests/e2e/**/*.test.ts"], ...withVms } },
      { test: { name: "army", include: ["tests/army/**/*.test.ts"], ...withVms } },
      { test: { name: "realwork", include: ["tests/realwork/**/*.test.ts"], ...withVms } },
    ],
  },
});
