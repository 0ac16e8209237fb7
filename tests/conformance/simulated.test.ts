import { type LogFields, type Logger, silentLogger } from "@sprited/base";
import { describe, vi } from "vitest";
import { openSimulated } from "../kit/simulated.ts";
import { controlCalls } from "./control-calls.ts";
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

describe("with control connections", () => {
  const upgrades = { control: 0, exec: 0 };
  const count = (fields: LogFields): void => {
    if (fields["method"] !== "UPGRADE") return;
    if (fields["endpoint"] === "control") upgrades.control += 1;
    if (fields["endpoint"] === "execSocket") upgrades.exec += 1;
  };
  const logger: Logger = { ...silentLogger, info: count, child: () => logger };
  const target = useTarget(() => openSimulated({ control: true, logger }));
  controlCalls(target, () => ({ ...upgrades }));
});
