/** Templates with memory and pools on real VMs: processes that run on in every copy, each somebody of its own. */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { vmSkipReason } from "../kit/preflight.ts";

vi.setConfig({ testTimeout: 400_000, hookTimeout: 400_000 });

/** A process that keeps what only memory knows, and answers over a file when asked. */
const KEEPER = `
secret=$(head -c 8 /dev/urandom | od -An -tx1 | tr -d ' \\n')
echo $$ > /tmp/keeper.pid
trap 'echo "$secret" > /tmp/answer' USR1
while :; do sleep 0.2 & wait; done
`;

describe.skipIf(vmSkipReason() !== undefined)("templates and pools on real VMs", () => {
  let daemon: DaemonProcess;
  const call = async (method: string, path: string, json?: unknown) => await ask(daemon, `/v1${path}`, { method, json });
  const sh = async (sprite: string, script: string): Promise<string> =>
    (await execRaw(daemon, sprite, { cmd: ["sh", "-c", script] })).stdout.toString().trim();
  const askKeeper = (sprite: string): Promise<string> =>
    sh(
      sprite,
      "rm -f /tmp/answer; kill -USR1 $(cat /tmp/keeper.pid) && for n in 1 2 3 4 5 6 7 8 9 10; do [ -s /tmp/answer ] && break; sleep 0.3; done; cat /tmp/answer",
    );
  const identity = async (sprite: string): Promise<string[]> =>
    (await sh(sprite, "hostname; cat /etc/hostname /etc/machine-id; head -c 16 /dev/urandom | od -An -tx1")).split("\n");
  let secret = "";

  beforeAll(async () => {
    daemon = await DaemonProcess.open();
    expect((await call("POST", "/sprites", { name: "base" })).status).toBe(201);
    await sh(
      "base",
      `cat > ~/keeper.sh <<'END'\n${KEEPER}\nEND\nsetsid sh ~/keeper.sh </dev/null >/dev/null 2>&1 & sleep 1; echo prepared > ~/data`,
    );
    secret = await askKeeper("base");
    expect(secret).toMatch(/^[0-9a-f]{16}$/);
  });
  afterAll(async () => await daemon[Symbol.asyncDispose]());

  test("[TPL-2] [TPL-5] a template with memory starts sprites with the processes running, also when its source is gone", async () => {
    const made = await call("POST", "/templates", { name: "keeper", sprite: "base", memory: true });
    expect([made.status, made.json()["current"]]).toEqual([201, expect.objectContaining({ memory: true, memory_state: "usable" })]);
    expect((await call("POST", "/sprites", { name: "wrong", template: "keeper", config: { ram_mb: 1024 } })).json()["error"]).toBe(
      "template_size_fixed",
    );
    expect((await call("DELETE", "/sprites/base")).status).toBe(204);
    const copy = await call("POST", "/sprites", { name: "copy", template: "keeper" });
    expect([copy.status, copy.json()["status"]]).toEqual([201, "warm"]);
    expect(await sh("copy", "cat ~/data")).toBe("prepared");
    expect(await askKeeper("copy")).toBe(secret);
  });

  test("[TPL-7] [POOL-3] [POOL-4] spares wait hibernated; those claimed run on with memory and an identity of their own", async () => {
    expect(
      (await call("POST", "/pools", { name: "p", template: "keeper", min: 2, max: 3, setup: ["sh", "-c", "echo set up > ~/setup"] }))
        .status,
    ).toBe(201);
    await expect.poll(async () => (await call("GET", "/pools/p")).json(), { timeout: 240_000, interval: 500 }).toMatchObject({ ready: 2 });
    const claimed = await Promise.all(["one", "two"].map((name) => call("POST", "/pools/p/claim", { name, environment: { AGENT: name } })));
    expect(claimed.map((answer) => [answer.status, answer.json()["status"]])).toEqual([
      [201, "warm"],
      [201, "warm"],
    ]);
    const [one, two] = await Promise.all([identity("one"), identity("two")]);
    expect([one?.slice(0, 2), two?.slice(0, 2)]).toEqual([
      ["one", "one"],
      ["two", "two"],
    ]);
    expect(one?.[2]).toMatch(/^[0-9a-f]{32}$/);
    expect(one?.[2]).not.toBe(two?.[2]);
    expect(one?.[3]).not.toBe(two?.[3]);
    expect(await Promise.all(["one", "two"].map(askKeeper))).toEqual([secret, secret]);
    expect(await sh("two", 'cat ~/setup; echo "$AGENT"')).toBe("set up\ntwo");
  });

  test("[POOL-13] kill -9 of the daemon: what was claimed and what is ready is there, what was filling is made anew", async () => {
    await daemon.kill();
    await daemon.start();
    await expect
      .poll(async () => (await call("GET", "/pools/p")).json(), { timeout: 240_000, interval: 500 })
      .toMatchObject({ ready: 2, claimed: 2 });
    expect(await askKeeper("one")).toBe(secret);
    const third = await call("POST", "/pools/p/claim", { name: "three" });
    expect(third.status).toBe(201);
    expect((await identity("three"))[0]).toBe("three");
    expect((await call("DELETE", "/pools/p")).status).toBe(204);
  });
});
