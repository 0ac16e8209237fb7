/** Sleep as its users see it, the same on real VMs and on the simulated ones: what ran goes on, at the right byte. */
import { sleep, waitFor } from "@sprited/base";
import { expect, test } from "vitest";
import { execRaw, ExecSocket } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { PerlServer } from "../kit/perl-server.ts";
import { ProxySocket } from "../kit/proxy-socket.ts";
import { sdkOf, type Target, uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";

/** Prints a numbered line ten times a second. */
const COUNT = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done";
/** How long a sleeper is left alone, ms. */
const REST_MS = 1_500;

export interface Sleeper {
  target: Target;
  name: string;
  shell(script: string): Promise<string>;
  sleep(body?: { cold?: boolean }): Promise<Record<string, unknown>>;
  wake(): Promise<Record<string, unknown>>;
  get(): Promise<Record<string, unknown>>;
  check(): Promise<Record<string, unknown>>;
}

export async function newSleeper(target: Target, config?: { idle_seconds: number }): Promise<Sleeper> {
  const name = uniqueName("sleeper");
  if (config === undefined) await createSprite(target, name);
  else expect((await ask(target, "/v1/sprites", { method: "POST", json: { name, config } })).status).toBe(201);
  const call = async (path: string, question: Parameters<typeof ask>[2] = {}): Promise<Record<string, unknown>> => {
    const answer = await ask(target, `/v1/sprites/${name}${path}`, question);
    expect(answer.status, answer.text).toBe(200);
    return answer.json();
  };
  return {
    target,
    name,
    shell: async (script) => {
      const result = await execRaw(target, name, { cmd: ["sh", "-c", script] });
      expect(result.code, result.stderr.toString()).toBe(0);
      return result.stdout.toString();
    },
    sleep: (body = {}) => call("/sleep", { method: "POST", json: body }),
    wake: () => call("/wake", { method: "POST" }),
    get: () => call(""),
    check: () => call("/check"),
  };
}

/** Lines of a counting command: each once, in order, from the first on. */
function expectCounted(output: Buffer): number {
  const lines = output.toString().split("\n").slice(0, -1);
  expect(lines).toEqual(lines.map((_, index) => `line ${index + 1}`));
  return lines.length;
}

export function sleepSuite(open: () => Target): void {
  test("[LIFE-14] [LIFE-25] a sleeping sprite is warm everywhere, and nothing that looks wakes it", async () => {
    const sleeper = await newSleeper(open());
    await sleeper.shell("true");
    expect((await sleeper.sleep())["status"]).toBe("warm");
    const { target, name } = sleeper;
    const list = (await ask(target, `/v1/sprites?prefix=${name}`)).json();
    expect([(list["sprites"] as { status: string }[])[0]?.status, (await sleeper.get())["status"]]).toEqual(["warm", "warm"]);
    expect((await sleeper.check())["status"]).toBe("hibernated");
    expect((await sleeper.sleep())["status"]).toBe("warm");
    expect((await sleeper.wake())["status"]).toBe("running");
    expect((await sleeper.check())["status"]).toBe("healthy");
  });

  test("[LIFE-24] an attached client sees every byte once, over sleeps and wakes it knows nothing of", async () => {
    const sleeper = await newSleeper(open());
    const exec = await ExecSocket.open(sleeper.target, sleeper.name, { cmd: ["sh", "-c", COUNT], stdin: "false" });
    await exec.until("the first lines", () => exec.stream(1).includes("line 5\n"));
    for (let round = 0; round < 2; round += 1) {
      await sleeper.sleep();
      const before = expectCounted(exec.stream(1));
      await sleep(REST_MS);
      expect(expectCounted(exec.stream(1)), "nothing is counted in sleep").toBeLessThanOrEqual(before + 3);
      await sleeper.wake();
      await exec.until("further lines", () => exec.stream(1).includes(`line ${before + 10}\n`));
    }
    expectCounted(exec.stream(1));
    expect(exec.closeCode).toBeUndefined();
    exec.drop();
  });

  test("[LIFE-20] a cold sleep of a sleeping sprite ends what ran in order and keeps the disk alone", async () => {
    const sleeper = await newSleeper(open());
    const exec = await ExecSocket.open(sleeper.target, sleeper.name, { cmd: ["sh", "-c", COUNT], stdin: "false" });
    await exec.until("the first line", () => exec.stream(1).includes("line 1\n"));
    await sleeper.sleep();
    expect((await sleeper.sleep({ cold: true }))["status"]).toBe("cold");
    expect((await sleeper.get())["memory_lost"]).toBeUndefined();
    await exec.end();
    expectCounted(exec.stream(1));
  });

  test("[LIFE-26] an idle sprite falls asleep by itself; a command wakes it, and keeps it awake", async () => {
    const sleeper = await newSleeper(open(), { idle_seconds: 1 });
    await sleeper.shell("true");
    const asleep = (): Promise<unknown> =>
      waitFor("the sprite to sleep", { timeoutMs: 30_000, everyMs: 100 }, async () => (await sleeper.get())["status"] === "warm");
    await asleep();
    const begun = performance.now();
    expect(await sleeper.shell("sleep 3; echo awake")).toBe("awake\n");
    expect(performance.now() - begun).toBeGreaterThan(2_900);
    await asleep();
    const changed = await ask(sleeper.target, `/v1/sprites/${sleeper.name}`, { method: "PUT", json: { config: { idle_seconds: 0 } } });
    expect(changed.json()["config"]).toMatchObject({ idle_seconds: 0 });
    await sleeper.wake();
    await sleep(2_500);
    expect((await sleeper.get())["status"]).toBe("running");
  });

  test("[PROXY-6] [PROXY-13] a connection whose client has vanished sleeps with the sprite; the client that comes back wakes both", async () => {
    const sleeper = await newSleeper(open());
    const { target, name } = sleeper;
    await using server = await PerlServer.start(sdkOf(target).sprite(name), "echo");
    const proxy = await ProxySocket.open(target, name, { port: server.port, resumable: true });
    proxy.send(Buffer.from("one "));
    await waitFor("the echo", { timeoutMs: 60_000 }, () => proxy.received.toString() === "one ");
    proxy.socket.terminate();
    expect((await sleeper.sleep())["status"]).toBe("warm");
    const back = await ProxySocket.open(target, name, { resume: proxy.answer["session_id"], offset: 2 });
    expect(back.answer).toMatchObject({ status: "connected", input_offset: 4 });
    back.send(Buffer.from("two"));
    await waitFor("the rest", { timeoutMs: 60_000 }, () => back.received.toString() === "e two");
    back.close();
  });

  test.each([
    ["resumable", true],
    ["of an official client", false],
  ])(
    "[PROXY-13] an open connection (%s) sleeps with the sprite; bytes of its client wake it, and none is lost",
    async (_what, resumable) => {
      const sleeper = await newSleeper(open());
      const { target, name } = sleeper;
      await using server = await PerlServer.start(sdkOf(target).sprite(name), "echo");
      const proxy = await ProxySocket.open(target, name, { port: server.port, ...(resumable ? { resumable } : {}) });
      let all = "";
      for (const word of ["before ", "after a sleep ", "and another"]) {
        if (all !== "") expect((await sleeper.sleep())["status"]).toBe("warm");
        all += word;
        proxy.send(Buffer.from(word));
        await waitFor("the echo", { timeoutMs: 60_000 }, () => proxy.received.toString() === all);
        expect((await sleeper.get())["status"]).toBe("running");
      }
      expect(proxy.closeCode).toBeUndefined();
      proxy.close();
    },
  );

  test("[LIFE-9] a sleeping sprite is deleted with its memory", async () => {
    const sleeper = await newSleeper(open());
    await sleeper.shell("true");
    await sleeper.sleep();
    expect((await ask(sleeper.target, `/v1/sprites/${sleeper.name}`, { method: "DELETE" })).status).toBe(204);
  });
}
