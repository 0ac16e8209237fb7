import { silentLogger } from "@sprited/base";
import { describe, expect, test } from "vitest";
import { Admission, type AdmissionSettings, shortage } from "./admission.ts";

const settings: AdmissionSettings = { runningMemoryMib: 2_000, reserveMib: 500, waitMs: 300 };
const facts = { machinesMib: [512, 512], pendingMib: [], availableMib: 4_000, settings };
const never = new AbortController().signal;

describe("admission", () => {
  test("[LIFE-27] counts machines and places given out, and what the host has left", () => {
    expect(shortage(512, facts)).toBeUndefined();
    expect(shortage(512, { ...facts, pendingMib: [512] })).toMatch(/all together may have 2000 MiB/);
    expect(shortage(1_024, facts)).toMatch(/all together/);
    expect(shortage(512, { ...facts, availableMib: 600 })).toMatch(/600 MiB of memory left and keeps 500 MiB/);
  });

  function setup(machinesMib: number[], makeRoom: () => Promise<boolean> = async () => false) {
    return new Admission({ settings, machinesMib: () => machinesMib, makeRoom, availableMib: () => 4_000, logger: silentLogger });
  }

  test("[LIFE-27] a place counts until it is given back", async () => {
    const admission = setup([512]);
    const first = await admission.acquire(1_000, { signal: never });
    await expect(admission.acquire(1_000, { signal: never })).rejects.toMatchObject({ code: "host_memory_full" });
    first[Symbol.dispose]();
    await admission.acquire(1_000, { signal: never });
  });

  test("[LIFE-27] idle sprites make room for who waits", async () => {
    const machines = [700, 700];
    const admission = setup(machines, async () => machines.pop() !== undefined);
    await admission.acquire(700, { signal: never });
    expect(machines).toEqual([700]);
  });

  test("[LIFE-27] a sprite that does not fall asleep holds nobody up for longer than a place is waited for", async () => {
    const admission = setup([700, 700], () => new Promise(() => {}));
    await expect(admission.acquire(700, { signal: never })).rejects.toMatchObject({ code: "host_memory_full" });
  });

  test("[LIFE-27] what can never fit is refused at once, who gives up leaves the turn to the next", async () => {
    const admission = setup([1_800]);
    await expect(admission.acquire(4_000, { signal: never })).rejects.toThrow(/more than all sprites may have/);
    const gone = new AbortController();
    const waiting = admission.acquire(500, { signal: gone.signal });
    const next = admission.acquire(4, { signal: never });
    gone.abort(new Error("left"));
    await expect(waiting).rejects.toThrow("left");
    await next;
  });
});
