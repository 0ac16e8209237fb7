/** Everything a client can do wrong with commands, against a real daemon with real VMs. */
import { describe, vi } from "vitest";
import { useTarget } from "../conformance/suite.ts";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { rssMb } from "../perf/proc.ts";
import { badExec } from "./bad-exec.ts";

vi.setConfig({ testTimeout: 180_000, hookTimeout: 300_000 });

describe.skipIf(vmSkipReason() !== undefined)("bad input on real VMs", () => {
  const target = useTarget(() => DaemonProcess.open());
  badExec(target, { serverRssBytes: async () => (await rssMb(target().pid)) * 1_000_000 });
});
