import { Scope, silentLogger } from "@sprited/base";
import type { VmExit, VmProcess } from "@sprited/vmm";
import { expect, test } from "vitest";
import type { GuestLink } from "../guest/index.ts";
import type { MachineSpec } from "./machine.ts";
import type { MemoryRecord } from "./memory.ts";
import { bootstrapOf, RunningMachine, whileAlive } from "./running.ts";

test("[LIFE-6] the end of a VM ends its link: no call waits for a guest that is gone", async () => {
  const exited = Promise.withResolvers<VmExit>();
  const closed = Promise.withResolvers<Error>();
  const link = {
    closed: closed.promise,
    // The network of a VM that was killed never says so itself.
    [Symbol.asyncDispose]: async () => closed.resolve(new Error("closed by the host")),
  } as Partial<GuestLink> as GuestLink;
  const machine = new RunningMachine(
    { startTimeoutMs: 1, linkTimeoutMs: 1, pool: { requireSpace: async () => {}, giveBack: async () => {} }, logger: silentLogger },
    {
      record: { incarnation: "i1", spriteId: "s1", directory: "/nowhere", slotIndex: undefined, key: new Uint8Array(32), createdAtMs: 0 },
      process: { incarnation: "i1", pid: 1, exited: exited.promise } as Partial<VmProcess> as VmProcess,
      slot: undefined,
      facts: undefined,
      firstLink: link,
      scope: new Scope("test"),
    },
  );
  expect(await machine.link()).toBe(link);
  exited.resolve({ kind: "crashed", detail: "" });
  expect((await closed.promise).message).toBe("closed by the host");
  await expect(machine.link()).rejects.toMatchObject({ code: "vmm_exited_early" });
});

test("[LIFE-6] whoever waits for a guest's first answer does not wait for one that is gone", async () => {
  const exited = Promise.withResolvers<VmExit>();
  const waiting = whileAlive(
    { exited: exited.promise },
    new AbortController().signal,
    (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("link lost")))),
  );
  exited.resolve({ kind: "crashed", detail: "" });
  await expect(waiting).rejects.toMatchObject({ code: "vmm_exited_early" });
});

test("[BOOT-7] the guest is asked to end its connections for a memory that was put in place, and for no other", () => {
  const record = {
    incarnation: "i1",
    spriteId: "s1",
    directory: "/nowhere",
    slotIndex: undefined,
    key: new Uint8Array(32),
    createdAtMs: 0,
  };
  const spec = { hostname: "one", machineId: "0", renewIdentity: false, environment: {} } as Partial<MachineSpec> as MachineSpec;
  const saved = { agentVersion: "1" } as Partial<MemoryRecord> as MemoryRecord;
  const asked = (memory?: MemoryRecord) => bootstrapOf(record, spec, { facts: { generation: 1 }, memory }).drop_connections;
  expect([asked(), asked(saved), asked({ ...saved, inherited: true })]).toEqual([undefined, undefined, true]);
});
