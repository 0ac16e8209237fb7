/** Jobs in real VMs: the daemon is killed at any moment, asked again later, and a VM dies under a job. */
import { waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { ask } from "../kit/http.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { uniqueName } from "../kit/target.ts";

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

describe.skipIf(vmSkipReason() !== undefined)("jobs in a VM", () => {
  let daemon: DaemonProcess;
  const name = uniqueName("job");
  const jobs = `/v1/sprites/${name}/jobs`;

  beforeAll(async () => {
    daemon = await DaemonProcess.open();
    expect((await ask(daemon, "/v1/sprites", { method: "POST", json: { name } })).status).toBe(201);
  });
  afterAll(async () => {
    await daemon.closeClean();
    await daemon[Symbol.asyncDispose]();
  });

  async function ended(id: string): Promise<Record<string, unknown>> {
    return await waitFor("the job's end", { timeoutMs: 120_000 }, async () => {
      const job = (await ask(daemon, `${jobs}/${id}/wait?timeout=20s`)).json();
      return job["state"] !== "running" && job;
    });
  }

  test("[JOB-9] kill -9 of the daemon while a job runs: the log is whole, the outcome is the command's", async () => {
    const json = { cmd: ["sh", "-c", "for i in $(seq 1 60); do echo line $i; sleep 0.2; done; cat; exit 6"], stdin: "the input\n" };
    const { id } = (await ask(daemon, jobs, { method: "POST", json })).json() as { id: string };
    for (let round = 0; round < 2; round++) {
      await daemon.kill();
      await daemon.start();
    }
    expect(await ended(id)).toMatchObject({ state: "exited", exit_code: 6 });
    const expected = `${Array.from({ length: 60 }, (_, index) => `line ${index + 1}\n`).join("")}the input\n`;
    expect((await ask(daemon, `${jobs}/${id}/log`)).text).toBe(expected);
  });

  test("[JOB-9] [JOB-3] kill -9 around the start: the command ran once, or the job says that it did not run", async () => {
    for (const afterMs of [0, 5, 30, 120]) {
      const key = `start-${afterMs}`;
      const json = { cmd: ["sh", "-c", `echo ran >> ~/${key}`], idempotency_key: key };
      void ask(daemon, jobs, { method: "POST", json }).catch(() => {}); // the daemon dies under it
      await new Promise((resolve) => setTimeout(resolve, afterMs));
      await daemon.kill();
      await daemon.start();
      const again = (await ask(daemon, jobs, { method: "POST", json })).json() as { id: string };
      const job = await ended(again.id);
      const count = (await ask(daemon, jobs, { method: "POST", json: { cmd: ["sh", "-c", `cat ~/${key} | wc -l`] } })).json() as {
        id: string;
      };
      await ended(count.id);
      const ran = Number((await ask(daemon, `${jobs}/${count.id}/log?stream=stdout`)).text);
      expect([job["state"], ran], JSON.stringify(job)).toEqual(job["state"] === "lost" ? ["lost", expect.any(Number)] : ["exited", 1]);
      expect(ran).toBeLessThanOrEqual(1);
    }
  });

  test("[JOB-7] a job whose VM is killed, also while no daemon runs, is lost with the reason", async () => {
    const { id } = (await ask(daemon, jobs, { method: "POST", json: { cmd: ["sleep", "1000"] } })).json() as { id: string };
    await daemon.kill();
    await daemon.killVms();
    await daemon.start();
    expect(await ended(id)).toMatchObject({ state: "lost", reason: expect.stringContaining("machine") });
  });
});
