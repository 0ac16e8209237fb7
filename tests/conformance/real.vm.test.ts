import { describe, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { conformance } from "./suite.ts";

vi.setConfig({ testTimeout: 180_000, hookTimeout: 300_000 });

describe.skipIf(vmSkipReason() !== undefined)("conformance on real VMs", () => {
  conformance(() => DaemonProcess.open(), { long: true });
});
