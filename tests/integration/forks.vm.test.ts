/** Forks and one-file copies of a real VM: processes go on in each, identity is each one's own. */
import { waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw, ExecSocket } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";

vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

const FORKS = 3;

describe.skipIf(vmSkipReason() !== undefined)("forks of a real VM", () => {
  let daemon: DaemonProcess;
  const name = uniqueName("origin");
  const shell = async (sprite: string, script: string): Promise<string> => {
    const result = await execRaw(daemon, sprite, { cmd: ["sh", "-c", script] });
    return result.stdout.toString() + result.stderr.toString();
  };

  beforeAll(async () => {
    daemon = await DaemonProcess.open();
    await createSprite(daemon, name);
  });
  afterAll(async () => {
    await daemon?.closeClean().finally(() => daemon[Symbol.asyncDispose]());
  });

  test("[FORK-1, FORK-3, FORK-5] with memory: the counter goes on in every fork, each with an identity and randomness of its own", async () => {
    const counter = await ExecSocket.open(daemon, name, {
      cmd: ["sh", "-c", "echo up; i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.2; done"],
      stdin: "false",
      max_run_after_disconnect: "0s",
    });
    await counter.until("the counter", () => counter.stream(1).includes("up"));
    await shell(name, "echo mine > ~/file");
    await waitFor("some counts", { timeoutMs: 60_000 }, async () => Number(await shell(name, "cat /tmp/count")) > 3);
    const answer = await ask(daemon, `/v1/sprites/${name}/fork`, { method: "POST", json: { count: FORKS, memory: true } });
    expect(answer.status, answer.text).toBe(201);
    const forks = (answer.json()["sprites"] as { name: string }[]).map((one) => one.name);
    expect(counter.exitPayload).toBeUndefined();
    const identity = "cat /proc/sys/kernel/hostname /etc/hostname /etc/machine-id; head -c 16 /dev/urandom | od -An -tx1";
    const facts = new Map<string, string[]>();
    for (const sprite of [name, ...forks]) {
      const first = Number(await shell(sprite, "cat /tmp/count"));
      expect(first).toBeGreaterThan(3);
      await waitFor("the counter to go on", { timeoutMs: 60_000 }, async () => Number(await shell(sprite, "cat /tmp/count")) > first);
      expect(await shell(sprite, "cat ~/file")).toBe("mine\n");
      facts.set(sprite, (await shell(sprite, identity)).trim().split("\n"));
    }
    for (const [sprite, [host, file]] of facts) expect([host, file]).toEqual([sprite, sprite]);
    for (const index of [2, 3]) expect(new Set([...facts.values()].map((lines) => lines[index])).size).toBe(FORKS + 1);
    for (const sprite of forks) await shell(sprite, `echo ${sprite} > ~/file; sync`);
    expect(await shell(name, "cat ~/file")).toBe("mine\n");
    expect(await shell(forks[0] ?? "", "cat ~/file")).toBe(`${forks[0]}\n`);
    for (const sprite of forks) expect((await ask(daemon, `/v1/sprites/${sprite}`, { method: "DELETE" })).status).toBe(204);
  });

  test("[EXEC-22, EXEC-11] a session of the source goes on in a fork, is attached there, and outlives the daemon; the source's client sees nothing", async () => {
    const counter = await ExecSocket.open(daemon, name, {
      cmd: ["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.5; done"],
      stdin: "false",
    });
    const counted = (socket: ExecSocket): number => Number(socket.stream(1).toString().trim().split("\n").at(-1));
    await counter.until("some counts", () => counted(counter) > 3);
    const fork = uniqueName("carried");
    const answer = await ask(daemon, `/v1/sprites/${name}/fork`, { method: "POST", json: { names: [fork], memory: true } });
    expect(answer.status, answer.text).toBe(201);
    expect((await ask(daemon, `/v1/sprites/${fork}/wake`, { method: "POST" })).status).toBe(200);
    const session = await waitFor("the session in the fork", { timeoutMs: 60_000 }, async () => {
      const { sessions } = (await ask(daemon, `/v1/sprites/${fork}/exec`)).json() as { sessions: { id: string; command: string }[] };
      return sessions.find(({ command }) => command.startsWith("sh -c i=0"));
    });
    const carried = await ExecSocket.open(daemon, fork, `/${session.id}`);
    await carried.until("counts in the fork", () => counted(carried) > 5);
    carried.drop();
    expect(await ask(daemon, `/v1/sprites/${name}/exec`).then((one) => one.text)).toContain(session.id);
    const before = counted(counter);
    await counter.until("counts in the source", () => counted(counter) > before + 2);
    const lines = counter.stream(1).toString().trim().split("\n").map(Number);
    expect(lines).toEqual(lines.map((_, index) => index + 1));
    counter.drop();

    await daemon.kill();
    await daemon.start();
    const again = await ExecSocket.open(daemon, fork, `/${session.id}`);
    const first = counted(again);
    await again.until("counts after the restart", () => counted(again) > first + 2);
    const kept = again.stream(1).toString().trim().split("\n").map(Number);
    expect(kept).toEqual(kept.map((_, index) => index + (kept[0] ?? 0)));
    again.drop();
    expect((await ask(daemon, `/v1/sprites/${fork}`, { method: "DELETE" })).status).toBe(204);
  });

  test("[ARCH-1, ARCH-2] exported while it runs, imported, started", async () => {
    await shell(name, "echo packed > ~/file");
    const archive = await ask(daemon, `/v1/sprites/${name}/export`);
    expect(archive.status).toBe(200);
    const made = uniqueName("unpacked");
    const imported = await ask(daemon, `/v1/sprites/${made}/import`, { method: "POST", body: archive.body });
    expect(imported.status, imported.text).toBe(201);
    expect(await shell(made, "cat ~/file; cat /etc/hostname")).toBe(`packed\n${made}\n`);
    expect((await ask(daemon, `/v1/sprites/${made}`, { method: "DELETE" })).status).toBe(204);
  });
});
