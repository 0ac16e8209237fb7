/**
 * Checkpoints of real VMs: made while a guest writes, checked, restored, undone; the daemon killed
 * while it restores.
 */
import { sleep, waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw, ExecSocket } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";

vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

/** Data that is changed before a checkpoint, MB; `SPRITED_TEST_MEGABYTES` for more. */
const MEGABYTES = Number(process.env["SPRITED_TEST_MEGABYTES"] ?? 200);

interface Line {
  type: string;
  data?: string;
  error?: string;
  id?: string;
  previous?: string;
  memory?: boolean;
}

describe.skipIf(vmSkipReason() !== undefined)("checkpoints of real VMs", () => {
  let daemon: DaemonProcess;
  const name = uniqueName("saved");

  const shell = async (script: string): Promise<{ code: number | undefined; text: string }> => {
    const result = await execRaw(daemon, name, { cmd: ["sh", "-c", script] });
    return { code: result.code, text: result.stdout.toString() + result.stderr.toString() };
  };
  const stream = async (path: string, json?: unknown): Promise<Line> => {
    const answer = await ask(daemon, `/v1/sprites/${name}${path}`, { method: "POST", ...(json === undefined ? {} : { json }) });
    const lines = answer.text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Line);
    expect(lines.at(-1), answer.text).toMatchObject({ type: "complete" });
    return lines.at(-1) as Line;
  };
  const object = async (id: string): Promise<Record<string, unknown>> =>
    (await ask(daemon, `/v1/sprites/${name}/checkpoints/${id}`)).json();
  const verified = async (id: string): Promise<void> => {
    await waitFor(`the check of ${id}`, { timeoutMs: 240_000, everyMs: 500 }, async () => (await object(id))["state"] !== "verifying");
    expect(await object(id)).toMatchObject({ state: "complete", health: "" });
  };

  beforeAll(async () => {
    daemon = await DaemonProcess.open();
    await createSprite(daemon, name);
  });
  afterAll(async () => {
    await daemon?.closeClean().finally(() => daemon[Symbol.asyncDispose]());
  });

  test("[CKPT-3, CKPT-7] made while a guest writes: what was written before is in it, the guest runs on, the check passes", async () => {
    await shell("echo precious > ~/file");
    const writer = await ExecSocket.open(daemon, name, {
      cmd: [
        "sh",
        "-c",
        `dd if=/dev/urandom of=big bs=1M count=${MEGABYTES} 2>/dev/null & i=0; while [ ! -e ~/stop ]; do i=$((i+1)); echo $i; echo $i > ~/count; sleep 0.05; done; wait; echo end`,
      ],
      stdin: "false",
    });
    await writer.until("some numbers", () => writer.stream(1).includes("\n5\n"));
    expect((await stream("/checkpoint", { comment: "while writing" })).id).toBe("v0");
    const seen = writer.stream(1).toString().trim().split("\n").length;
    await writer.until("more numbers", () => writer.stream(1).toString().trim().split("\n").length > seen + 5);
    await shell("touch ~/stop");
    await writer.end(240_000);
    expect(writer.stream(1).toString()).toContain("end");
    await verified("v0");
  });

  test("[CKPT-10, CKPT-11, CKPT-16] restored to the byte, undone to the byte; sessions end", async () => {
    await shell("rm ~/stop; echo changed > ~/file; rm -f ~/big; echo unflushed > ~/late");
    const waiting = await ExecSocket.open(daemon, name, { cmd: ["sleep", "600"], stdin: "false", max_run_after_disconnect: "0s" });
    const restored = await stream("/checkpoints/v0/restore");
    expect(restored.previous).toBe("auto-1");
    await waiting.end(60_000);
    expect(waiting.exitPayload?.[0]).not.toBe(0);
    expect(await shell("cat ~/file; cat ~/late; ls ~/stop")).toMatchObject({ text: expect.stringMatching(/^precious\n.*late/s) });
    expect((await stream("/restore/undo")).id).toBe("auto-1");
    expect(await shell("cat ~/file ~/late; ls ~/big")).toMatchObject({ text: expect.stringMatching(/^changed\nunflushed\n.*big/s) });
    await verified("auto-1");
  });

  test("[CKPT-50, CKPT-51] looked into and compared, without the sprite", async () => {
    const pids = await daemon.vmPids();
    const inside = `/v1/sprites/${name}/checkpoints/v0/fs`;
    expect((await ask(daemon, `${inside}/read?path=file`)).text).toBe("precious\n");
    const listed = (await ask(daemon, `${inside}/list?path=/home/sprite`)).json() as { entries: { name: string }[] };
    expect(listed.entries.map((one) => one.name)).toEqual(expect.arrayContaining(["file", "count"]));
    expect((await ask(daemon, `${inside}/read?path=late`)).status).toBe(404);
    expect((await ask(daemon, `/v1/sprites/${name}/checkpoints/v9/fs/read?path=file`)).json()["error"]).toBeDefined();
    const diff = (await ask(daemon, `/v1/sprites/${name}/checkpoints/v0/diff?to=auto-1`)).text.trim().split("\n");
    const lines = diff.map((line) => JSON.parse(line) as { type: string; path?: string; size_before?: number; size_after?: number });
    expect(lines.at(-1)?.type).toBe("complete");
    const of = (path: string) => lines.find((line) => line.path === path);
    expect(of("/home/sprite/file")).toMatchObject({ type: "changed", size_before: 9, size_after: 8 });
    expect(of("/home/sprite/late")).toMatchObject({ type: "added" });
    expect(lines.filter((line) => line.path !== undefined && !/^\/(home|tmp|var)/.test(line.path))).toEqual([]);
    expect((await daemon.vmPids()).filter((pid) => pids.includes(pid))).toEqual(pids);
    await waitFor("the machines to go", { timeoutMs: 60_000, everyMs: 500 }, async () => (await daemon.vmPids()).length === pids.length);
  });

  test("[CKPT-4] a sleeping sprite is copied without being woken", async () => {
    await ask(daemon, `/v1/sprites/${name}/sleep`, { method: "POST", json: { cold: true } });
    const pids = await daemon.vmPids();
    const { id } = await stream("/checkpoint");
    expect(await daemon.vmPids()).toEqual(pids);
    await verified(id ?? "");
  });

  test("[CKPT-4, CKPT-9, CKPT-11] with memory: processes go on where they were", async () => {
    const counter = await ExecSocket.open(daemon, name, {
      cmd: ["sh", "-c", "exec 2>&1; i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.2; done"],
      stdin: "false",
      max_run_after_disconnect: "0s",
    });
    await waitFor("the counter", { timeoutMs: 60_000 }, async () => Number((await shell("cat /tmp/count")).text) > 3);
    const saved = await stream("/checkpoint", { memory: true });
    expect(saved.memory).toBe(true);
    await verified(saved.id ?? "");
    await shell("pkill -f 'echo .i > /tmp/count'; echo gone > /tmp/count");
    await counter.end(60_000);
    expect((await stream(`/checkpoints/${saved.id}/restore`)).memory).toBe(true);
    const first = Number((await shell("cat /tmp/count")).text);
    expect(first).toBeGreaterThan(3);
    await waitFor("the counter to go on", { timeoutMs: 60_000 }, async () => Number((await shell("cat /tmp/count")).text) > first);
    expect(Math.abs(Number((await shell("date +%s%3N")).text) - Date.now())).toBeLessThan(5_000);
  });

  test("[CKPT-13] kill -9 of the daemon at moments of a restore: one state or the other, and it answers", async () => {
    await shell("echo one > ~/which; sync");
    const { id } = await stream("/checkpoint");
    for (const delayMs of [30, 120, 250, 400, 700]) {
      await shell("echo two > ~/which; sync");
      const asked = ask(daemon, `/v1/sprites/${name}/checkpoints/${id}/restore`, { method: "POST" }).catch((error: unknown) => error);
      await sleep(delayMs);
      await daemon.kill();
      await asked;
      await daemon.start();
      expect(["one\n", "two\n"]).toContain((await shell("cat ~/which")).text);
      const list = (await ask(daemon, `/v1/sprites/${name}/checkpoints?includeAuto=true`)).json() as unknown as {
        state: string;
        health: string;
      }[];
      expect(list.filter((one) => one.health !== "" || one.state === "creating" || one.state === "failed")).toEqual([]);
    }
    for (const one of (await ask(daemon, `/v1/sprites/${name}/checkpoints?includeAuto=true`)).json() as unknown as { id: string }[]) {
      if (one.id !== "Current") await verified(one.id);
    }
  });
});
