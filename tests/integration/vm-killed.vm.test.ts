/** A VM that dies under its users: everyone hears it, the next request gets a new one. */
import { once } from "node:events";
import { waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw, ExecSocket } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { sdkOf, uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";

vi.setConfig({ testTimeout: 180_000, hookTimeout: 300_000 });

describe.skipIf(vmSkipReason() !== undefined)("a VM that dies", () => {
  let daemon: DaemonProcess;
  const name = uniqueName("mortal");
  const status = async (): Promise<unknown> => (await ask(daemon, `/v1/sprites/${name}`)).json()["status"];
  const echo = async (): Promise<string> => (await execRaw(daemon, name, { cmd: ["echo", "back"] })).stdout.toString();

  beforeAll(async () => {
    daemon = await DaemonProcess.open();
    await createSprite(daemon, name);
    await echo();
  });
  afterAll(async () => {
    await daemon?.closeClean().finally(() => daemon[Symbol.asyncDispose]());
  });

  test("[LIFE-6] killed while idle: cold, and the next request wakes", async () => {
    await daemon.killVms();
    await waitFor("cold", { timeoutMs: 15_000 }, async () => (await status()) === "cold");
    expect(await echo()).toBe("back\n");
    expect(await status()).toBe("running");
  });

  test("[EXEC-5] killed while commands run: each client gets a clear end, soon", async () => {
    const plain = await ExecSocket.open(daemon, name, { cmd: ["sh", "-c", "echo on; sleep 600"], stdin: "false" });
    const terminal = await ExecSocket.open(daemon, name, { cmd: ["sh", "-c", "echo on; sleep 600"], stdin: "true", tty: "true" });
    const posted = ask(daemon, `/v1/sprites/${name}/exec?cmd=sleep&cmd=600`, { method: "POST", body: "" });
    await plain.until("output", () => plain.stream(1).includes("on"));
    await terminal.until("output", () => terminal.terminal.includes("on"));
    const startedMs = performance.now();
    expect(await daemon.killVms()).toBe(1);
    expect(await plain.end(20_000)).toBeGreaterThan(1000);
    expect(await terminal.end(20_000)).toBeGreaterThan(1000);
    expect(performance.now() - startedMs).toBeLessThan(20_000);
    expect(plain.jsonMessages).toContainEqual({ type: "error", error: "vm_lost", message: expect.stringMatching(/machine ended/) });
    expect(plain.exitPayload?.[0]).toBe(255);
    expect(plain.stream(2).toString()).toContain("outcome is not known");
    expect(terminal.jsonMessages.at(-1)).toMatchObject({ type: "exit", exit_code: 255 });
    expect((await posted).body.subarray(-2).toString("hex")).toBe("03ff");
    expect((await ask(daemon, `/v1/sprites/${name}/exec`)).json()["sessions"]).toEqual([]);
    expect(await echo()).toBe("back\n");
  });

  test("the official client sees a failure, not a hang and not a success", async () => {
    const sprite = sdkOf(daemon).sprite(name);
    const command = sprite.spawn("sh", ["-c", "echo on; sleep 600"]);
    const exitCode = command.wait();
    // Not only listed, but answered: killed before that, the handshake is refused.
    await once(command.stdout, "data");
    await daemon.killVms();
    expect(await exitCode).toBe(255);
    expect((await sprite.exec("echo next")).stdout).toBe("next\n");
  });

  test("[LIFE-3] killed while waking: the waiting request gets a typed error or a woken sprite, the next one works", async () => {
    await ask(daemon, `/v1/sprites/${name}/sleep`, { method: "POST", json: { cold: true } });
    const waiting = ExecSocket.open(daemon, name, { cmd: ["echo", "x"], stdin: "false" }).then(
      (exec) => exec.end(),
      (error: { status?: number; code?: unknown }) => error,
    );
    await waitFor("the VM process", { timeoutMs: 30_000, everyMs: 2 }, async () => (await daemon.vmPids()).length > 0);
    await daemon.killVms();
    const outcome = await waiting;
    if (typeof outcome === "object") expect([outcome.status, outcome.code]).toEqual([503, expect.stringMatching(/^vm_/)]);
    expect(await echo()).toBe("back\n");
  });

  test("power-off and reboot from inside: cold or running, never stuck", async () => {
    for (const command of ["poweroff", "reboot"]) {
      await execRaw(daemon, name, { cmd: ["sudo", command, "-f"] }).catch((error: unknown) => error);
      expect(await echo(), command).toBe("back\n");
    }
  });

  test("a sprite that dies leaves its neighbours alone", async () => {
    const neighbour = uniqueName("neighbour");
    await createSprite(daemon, neighbour);
    const exec = await ExecSocket.open(daemon, neighbour, { cmd: ["sh", "-c", 'echo up; read line; echo "$line"'], stdin: "true" });
    await exec.until("output", () => exec.stream(1).includes("up"));
    await execRaw(daemon, name, { cmd: ["sudo", "sh", "-c", "echo c > /proc/sysrq-trigger"] }).catch((error: unknown) => error);
    exec.sendInput("still here\n");
    await exec.end();
    expect(exec.stream(1).toString()).toBe("up\nstill here\n");
    await ask(daemon, `/v1/sprites/${neighbour}`, { method: "DELETE" });
    expect(await echo()).toBe("back\n");
  });
});
