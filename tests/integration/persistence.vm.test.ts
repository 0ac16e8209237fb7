/** What a user wrote is there again: after stop, daemon restart, kill -9 of daemon or VM, host reboot. */
import { randomBytes } from "node:crypto";
import { stat } from "node:fs/promises";
import path from "node:path";
import { run, waitFor } from "@sprited/base";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw, ExecSocket } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";

vi.setConfig({ testTimeout: 240_000, hookTimeout: 300_000 });

describe.skipIf(vmSkipReason() !== undefined)("persistence on real VMs", () => {
  let daemon: DaemonProcess;
  const name = uniqueName("keeper");
  const written: { file: string; text: string }[] = [];

  const shell = async (script: string): Promise<{ code: number | undefined; text: string }> => {
    const result = await execRaw(daemon, name, { cmd: ["sh", "-c", script] });
    return { code: result.code, text: result.stdout.toString() + result.stderr.toString() };
  };
  const status = async (): Promise<unknown> => (await ask(daemon, `/v1/sprites/${name}`)).json()["status"];
  /** Every file of every earlier step must still be there. */
  const expectAllThere = async (): Promise<void> => {
    for (const { file, text } of written) expect(await shell(`cat ${file}`), file).toEqual({ code: 0, text });
  };

  beforeAll(async () => {
    daemon = await DaemonProcess.open();
    await createSprite(daemon, name);
  });
  afterAll(async () => {
    await daemon?.closeClean().finally(() => daemon[Symbol.asyncDispose]());
  });
  beforeEach(async () => {
    const file = `/home/sprite/${uniqueName("file")}`;
    const text = randomBytes(300).toString("base64");
    await shell(`printf %s '${text}' > ${file} && sync`);
    written.push({ file, text });
  });

  test("[LIFE-7] [LIFE-2] an orderly stop, even of what was never flushed; the next command wakes", async () => {
    await shell("echo unflushed > /home/sprite/late");
    const stopped = await ask(daemon, `/v1/sprites/${name}/sleep`, { method: "POST", json: { cold: true } });
    expect([stopped.status, stopped.json()["status"]]).toEqual([200, "cold"]);
    expect(await daemon.vmPids()).toEqual([]);
    expect(await shell("cat /home/sprite/late")).toEqual({ code: 0, text: "unflushed\n" });
    expect(await status()).toBe("running");
    await expectAllThere();
  });

  test("[DISK-11] blocks that are freed in the sprite are given back to the host, without anybody asking", async () => {
    const { id } = (await ask(daemon, `/v1/sprites/${name}`)).json() as { id: string };
    const disk = path.join(daemon.home.layout.sprites, id, "disk.raw");
    const allocatedMb = async (): Promise<number> => ((await stat(disk)).blocks * 512) / 1e6;
    const before = await allocatedMb();
    expect(await shell("dd if=/dev/zero of=/home/sprite/large bs=1M count=200 conv=fsync status=none")).toMatchObject({ code: 0 });
    const full = await allocatedMb();
    expect(full - before).toBeGreaterThan(150);
    expect(await shell("rm /home/sprite/large && sync")).toMatchObject({ code: 0 });
    await waitFor("the blocks to be free", { timeoutMs: 60_000, everyMs: 500 }, async () => full - (await allocatedMb()) >= 150);
  });

  test("[LIFE-13] identity stays over stop and wake", async () => {
    const before = await shell("hostname; cat /etc/machine-id");
    expect(before.text.split("\n")[0]).toBe(name);
    await ask(daemon, `/v1/sprites/${name}/restart`, { method: "POST" });
    expect(await shell("hostname; cat /etc/machine-id")).toEqual(before);
  });

  test("[LIFE-11] Ctrl-C of the daemon leaves VM and processes; the next daemon takes them over", async () => {
    const left = await ExecSocket.open(daemon, name, {
      cmd: ["sh", "-c", "echo begun; exec sleep 600"],
      stdin: "false",
      max_run_after_disconnect: "0s",
    });
    await left.until("the command", () => left.stream(1).includes("begun"));
    const boot = await shell("cat /proc/sys/kernel/random/boot_id; pgrep -x sleep");
    const vms = await daemon.vmPids();
    await daemon.stop("SIGINT");
    expect(await daemon.vmPids()).toEqual(vms);
    await daemon.start();
    expect(await status()).toBe("running");
    expect(await shell("cat /proc/sys/kernel/random/boot_id; pgrep -x sleep")).toEqual(boot);
    expect(await daemon.vmPids()).toEqual(vms);
    await shell("pkill -x sleep");
    await expectAllThere();
  });

  test("[LIFE-11] [EXEC-11] kill -9 of the daemon: the running command is found again with all its output", async () => {
    const script = "i=0; while [ $i -lt 60 ]; do echo tick $i; i=$((i+1)); sleep 0.2; done";
    const exec = await ExecSocket.open(daemon, name, { cmd: ["sh", "-c", script], stdin: "false", max_run_after_disconnect: "0s" });
    await exec.until("some ticks", () => exec.stream(1).includes("tick 3"));
    const vms = await daemon.vmPids();
    await daemon.kill();
    expect(await exec.end()).toBe(1006);
    await daemon.start();
    expect(await daemon.vmPids()).toEqual(vms);
    const again = await ExecSocket.open(daemon, name, `/${exec.sessionId}?stdin=false`);
    await again.end();
    expect(again.exitPayload?.[0]).toBe(0);
    const lines = again.stream(1).toString().trim().split("\n");
    const first = Number(/^tick (\d+)$/.exec(lines[0] ?? "")?.[1]);
    expect(lines).toEqual(Array.from({ length: 60 - first }, (_, index) => `tick ${first + index}`));
    expect(exec.stream(1).toString() + again.stream(1).toString(), "no tick may be missing between the two clients").toContain(
      `tick ${first}\n`,
    );
    expect(exec.stream(1).toString().trim().split("\n").length).toBeGreaterThanOrEqual(first);
    await expectAllThere();
  });

  test("[EXEC-11] kill -9 of the daemon after much output: the command runs on and its end arrives", async () => {
    const script = "head -c 3000000 /dev/zero | tr '\\0' a; echo; echo loud; read line; echo \"heard $line\"; exit 9";
    const exec = await ExecSocket.open(daemon, name, { cmd: ["sh", "-c", script], stdin: "true", max_run_after_disconnect: "0s" });
    await exec.until("all of it", () => exec.stream(1).includes("loud\n"));
    await daemon.kill();
    await daemon.start();
    const again = await ExecSocket.open(daemon, name, `/${exec.sessionId}?stdin=true`);
    again.sendInput("you\n");
    await again.end(30_000);
    expect([again.exitPayload?.[0], again.stream(1).toString().endsWith("heard you\n")]).toEqual([9, true]);
  });

  test("[LIFE-6] kill -9 of the VM: cold, and the next command wakes it with all that was flushed", async () => {
    expect(await daemon.killVms()).toBe(1);
    await waitFor("the sprite to be cold", { timeoutMs: 15_000 }, async () => (await status()) === "cold");
    await expectAllThere();
  });

  test("[LIFE-10] kill -9 of daemon and VM together", async () => {
    await daemon.kill();
    expect(await daemon.killVms()).toBe(1);
    await daemon.start();
    expect(await status()).toBe("cold");
    await expectAllThere();
  });

  test("[LIFE-10] a host reboot: no process, namespace or rule survives, the disk does", async () => {
    await daemon.kill();
    await daemon.killVms();
    const traces = await daemon.traces();
    for (const line of traces.filter((trace) => trace.startsWith("netns: ")))
      await run("ip", ["netns", "del", line.slice("netns: ".length).split(" ")[0] ?? ""]);
    for (const line of traces.filter((trace) => trace.startsWith("nft table: "))) {
      const [, , , family = "", table = ""] = line.split(" ");
      await run("nft", ["delete", "table", family, table]);
    }
    await daemon.start();
    expect(await status()).toBe("cold");
    await expectAllThere();
    expect((await shell("exit 5")).code).toBe(5);
  });
});
