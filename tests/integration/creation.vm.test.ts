/** Many at once, and nothing left: creates in parallel, deletes at any moment. */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw, ExecSocket, RefusedError } from "../kit/exec-socket.ts";
import { expectNoTraces } from "../kit/host-traces.ts";
import { ask } from "../kit/http.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { uniqueName } from "../kit/target.ts";

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

describe.skipIf(vmSkipReason() !== undefined)("creation and deletion", () => {
  let daemon: DaemonProcess;
  let idle: string[] = [];
  const create = async (name: string): Promise<number> => (await ask(daemon, "/v1/sprites", { method: "POST", json: { name } })).status;
  const remove = async (name: string): Promise<number> => (await ask(daemon, `/v1/sprites/${name}`, { method: "DELETE" })).status;

  beforeAll(async () => {
    daemon = await DaemonProcess.open();
    const first = uniqueName("first");
    await create(first);
    await execRaw(daemon, first, { cmd: ["true"] });
    await remove(first);
    idle = (await daemon.traces()).filter((trace) => !trace.includes("qemu-system"));
  });
  afterAll(async () => {
    await daemon?.closeClean().finally(() => daemon[Symbol.asyncDispose]());
  });

  /**
   * A command as a client asks for it: told that its sprite did not wake in time (504, "try again"),
   * it tries again. Twenty emulated machines that wake at once need longer than one handshake may take.
   */
  const patiently = async <T>(ask: () => Promise<T>): Promise<T> => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await ask();
      } catch (error) {
        if (attempt === 4 || !(error instanceof RefusedError) || error.status !== 504) throw error;
      }
    }
  };

  /** Spare network places may come and go; everything else must be as before. */
  const expectNothingLeft = async (): Promise<void> => {
    const slots = (await daemon.traces()).filter((trace) => /^(netns|link): /.test(trace));
    await expectNoTraces(daemon.home, [...idle, ...slots]);
  };

  test("20 creates at once: 20 running sprites, each with its own disk and answer", async () => {
    const names = Array.from({ length: 20 }, (_, index) => `${uniqueName("many")}-${index}`);
    const outcomes = await Promise.all(
      names.map(async (name) => {
        const status = await create(name);
        const result = await patiently(() => execRaw(daemon, name, { cmd: ["sh", "-c", `echo ${name} > ~/mine; hostname; cat ~/mine`] }));
        return { status, code: result.code, text: result.stdout.toString() };
      }),
    );
    expect(outcomes).toEqual(names.map((name) => ({ status: 201, code: 0, text: `${name}\n${name}\n` })));
    expect(await daemon.vmPids()).toHaveLength(20);
    expect(await Promise.all(names.map(remove))).toEqual(names.map(() => 204));
    expect(await daemon.vmPids()).toEqual([]);
    await expectNothingLeft();
  });

  test("[LIFE-9] delete while a command runs frees everything, and the client hears it", async () => {
    const name = uniqueName("busy");
    await create(name);
    const exec = await ExecSocket.open(daemon, name, { cmd: ["sh", "-c", "echo on; sleep 600"], stdin: "false" });
    await exec.until("output", () => exec.stream(1).includes("on"));
    expect(await remove(name)).toBe(204);
    await exec.end(20_000);
    expect(exec.exitPayload?.[0]).toBe(255);
    await expectNothingLeft();
  });

  test("[LIFE-9] delete while waking cuts the wake short", async () => {
    const name = uniqueName("early");
    await create(name);
    const waiting = execRaw(daemon, name, { cmd: ["true"] }).then(
      () => ({ status: 200, code: "done" }),
      (error: { status?: number; code?: unknown }) => error,
    );
    await new Promise((resolve) => setTimeout(resolve, 80));
    expect(await remove(name)).toBe(204);
    const outcome = await waiting;
    if (outcome.code !== "done") expect([404, 409, 503]).toContain(outcome.status);
    await expectNothingLeft();
  });

  test("[LIFE-2] ten first commands at once share one wake", async () => {
    const name = uniqueName("shared");
    await create(name);
    const results = await Promise.all(Array.from({ length: 10 }, (_, index) => execRaw(daemon, name, { cmd: ["echo", String(index)] })));
    expect(results.map(({ stdout }) => stdout.toString())).toEqual(Array.from({ length: 10 }, (_, index) => `${index}\n`));
    expect(await daemon.vmPids()).toHaveLength(1);
    await remove(name);
    await expectNothingLeft();
  });
});
