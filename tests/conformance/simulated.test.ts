import { describe, vi } from "vitest";
import { openSimulated } from "../kit/simulated.ts";
import { execCalls } from "./exec-calls.ts";
import { conformance, useTarget } from "./suite.ts";
import { terminalCalls } from "./terminal-calls.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

conformance(() => openSimulated(), { long: false });

describe("with the link over a serial port, as without root", () => {
  const target = useTarget(() => openSimulated({ carrier: "serial" }));
  describe("exec", () => execCalls(target));
  describe("terminals and sessions", () => terminalCalls(target));
});
