/**
 * [LIFE-10] [CKPT-1] [CKPT-13] [JOB-9] kill -9 of the daemon or of VMs while sprites sleep, wake,
 * are saved, restored and forked and jobs start. Each round is one kill; afterwards every sprite
 * is legal and holds what is owed, and every acknowledged checkpoint, fork and job is there.
 * What a client was told of a command's output is still there, and nothing is orphaned. Together with
 * daemon-killed.vm.test.ts a run makes more than a hundred kills; `SPRITED_TEST_SEED` and
 * `SPRITED_TEST_ROUNDS` choose another one or a longer one.
 */
import { ignore, waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw, ExecSocket } from "../kit/exec-socket.ts";
import { type Answer, ask } from "../kit/http.ts";
import { expectNothingOrphaned, repeated } from "../kit/nothing-orphaned.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { Random } from "../kit/random.ts";
import { uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const SEED = Number(process.env["SPRITED_TEST_SEED"] ?? 20_26);
/** Under emulation 2 to 3 s each on idle cores, and up to two minutes for the checks at the end. */
const ROUNDS = Number(process.env["SPRITED_TEST_ROUNDS"] ?? 84);
/** Longest wait before the kill, ms: past the end of most steps. */
const MOMENT_MS_MAX = 1_500;
const CHECKPOINTS_MAX = 3;
const JOB_OUTPUT = "begun\nover\n";

/** What one sprite owes; contents are numbers in a file. */
interface Owed {
  name: string;
  /** What the file may hold. */
  content: Set<number>;
  /** Acknowledged checkpoints and what each may hold. */
  checkpoints: Map<string, Set<number>>;
  jobs: string[];
  /** Output of commands that clients got, by session. */
  got: Map<string, string>;
}

interface Line {
  type: string;
  id?: string;
  previous?: string;
}

describe.skipIf(vmSkipReason() !== undefined)("kill -9 while state is kept", () => {
  let daemon: DaemonProcess;
  const random = new Random(SEED);
  /** Choices within the present round. */
  let dice = random;
  const owed: Owed[] = [];
  let written = 0;

  const call = (method: string, path: string, json?: unknown): Promise<Answer | undefined> =>
    ask(daemon, path, { method, ...(json === undefined ? {} : { json }) }).catch(ignore("the daemon died"));
  /** The last line of a progress stream, when it was acknowledged. */
  const progress = async (path: string, json?: unknown): Promise<Line | undefined> => {
    const answer = await call("POST", path, json);
    const last = answer?.status === 200 ? answer.text.trim().split("\n").at(-1) : undefined;
    const line = last?.endsWith("}") ? (JSON.parse(last) as Line) : undefined;
    return line?.type === "complete" ? line : undefined;
  };
  const shell = (name: string, script: string) => execRaw(daemon, name, { cmd: ["sh", "-c", script] });

  const steps: Record<string, (sprite: Owed) => Promise<unknown>> = {
    async write(sprite) {
      written += 1;
      const value = written;
      const before = new Set(sprite.content);
      sprite.content.add(value);
      const done = await shell(sprite.name, `echo ${value} > ~/n && sync`).catch(ignore("killed"));
      if (done?.code === 0) for (const old of before) sprite.content.delete(old);
    },
    sleep: ({ name }) => call("POST", `/v1/sprites/${name}/sleep`, {}),
    async wake({ name }) {
      await call("POST", `/v1/sprites/${name}/sleep`, {});
      await call("POST", `/v1/sprites/${name}/wake`, {});
    },
    async checkpoint(sprite) {
      const { content } = sprite;
      const line = await progress(`/v1/sprites/${sprite.name}/checkpoint`, { memory: dice.chance(0.3) });
      if (line?.id !== undefined) sprite.checkpoints.set(line.id, new Set(content));
    },
    async restore(sprite) {
      const [id, content] = dice.pickMaybe([...sprite.checkpoints]) ?? [];
      if (id === undefined || content === undefined) return await steps["checkpoint"]?.(sprite);
      const line = await progress(`/v1/sprites/${sprite.name}/checkpoints/${id}/restore`);
      sprite.content = line ? new Set(content) : new Set([...sprite.content, ...content]);
    },
    async fork(sprite) {
      const name = uniqueName("fork");
      const content = new Set(sprite.content);
      const answer = await call("POST", `/v1/sprites/${sprite.name}/fork`, { names: [name], memory: dice.chance(0.5) });
      if (answer?.status === 201) owed.push({ name, content, checkpoints: new Map(), jobs: [], got: new Map() });
    },
    async say(sprite) {
      const script = "for n in 1 2 3 4 5 6 7 8; do echo line $n; sleep 0.1; done";
      const exec = await ExecSocket.open(daemon, sprite.name, { cmd: ["sh", "-c", script], stdin: "false" }).catch(ignore("killed"));
      await exec?.end().catch(ignore("killed"));
      if (exec && exec.stream(1).length > 0) sprite.got.set(exec.sessionId, exec.stream(1).toString());
    },
    async job(sprite) {
      const answer = await call("POST", `/v1/sprites/${sprite.name}/jobs`, { cmd: ["sh", "-c", "echo begun; sleep 0.5; echo over"] });
      if (answer?.status === 201) sprite.jobs.push(String(answer.json()["id"]));
    },
  };

  const checkContent = async (sprite: Owed): Promise<void> => {
    const { stdout, code } = await shell(sprite.name, "cat ~/n");
    expect(code, sprite.name).toBe(0);
    const value = Number(stdout.toString());
    // A write that nobody was told of may still be under way in the guest: the set shrinks with the next answer only.
    expect([...sprite.content], `${sprite.name} holds ${value}`).toContain(value);
  };
  const checkKept = async (sprite: Owed): Promise<void> => {
    const list = JSON.parse((await ask(daemon, `/v1/sprites/${sprite.name}/checkpoints`)).text) as { id: string; state: string }[];
    for (const id of sprite.checkpoints.keys()) {
      const found = list.find((each) => each.id === id);
      expect(["verifying", "complete"], `checkpoint ${id} of ${sprite.name}`).toContain(found?.state);
    }
    for (const id of sprite.jobs.splice(0)) {
      const job = (await ask(daemon, `/v1/sprites/${sprite.name}/jobs/${id}`)).json();
      expect(["running", "exited", "lost"]).toContain(job["state"]);
      if (job["state"] === "lost") expect(job["reason"]).toBeTruthy();
      const log = (await ask(daemon, `/v1/sprites/${sprite.name}/jobs/${id}/log?stream=stdout`)).text;
      expect(JOB_OUTPUT.startsWith(log), `job ${id} of ${sprite.name} printed ${JSON.stringify(log)}`).toBe(true);
      if (job["state"] === "exited") expect(log, `job ${id} of ${sprite.name}`).toBe(JOB_OUTPUT);
    }
    for (const [id, text] of sprite.got) {
      const log = (await ask(daemon, `/v1/sprites/${sprite.name}/exec/${id}/log?stream=stdout`)).text;
      expect(log.slice(0, text.length), `session ${id} of ${sprite.name}`).toBe(text);
      sprite.got.delete(id);
    }
  };
  const checkLegal = async (): Promise<void> => {
    const { sprites } = (await ask(daemon, "/v1/sprites?max_results=500")).json() as {
      sprites: { name: string; status: string; failure?: string; id: string }[];
    };
    for (const { status, failure } of sprites)
      expect([status, failure]).toEqual([expect.stringMatching(/^(cold|warm|running)$/), undefined]);
    expect(sprites.map(({ name }) => name)).toEqual(expect.arrayContaining(owed.map(({ name }) => name)));
    const disks = (await daemon.traces()).filter((trace) => trace.startsWith("disk: "));
    expect(disks.sort()).toEqual(sprites.map(({ id }) => `disk: ${id}`).sort());
    // Forks nobody was told of go; forks that were, once they were looked at: rounds stay short.
    for (const { name } of sprites) if (!owed.some((sprite) => sprite.name === name)) await call("DELETE", `/v1/sprites/${name}`);
  };
  const trim = async (): Promise<void> => {
    const forks = owed.splice(2).map(async (fork) => {
      await checkContent(fork);
      expect((await call("DELETE", `/v1/sprites/${fork.name}`))?.status).toBe(204);
    });
    await Promise.all(forks);
    for (const sprite of owed) {
      for (const id of [...sprite.checkpoints.keys()].slice(0, -CHECKPOINTS_MAX)) {
        const answer = await call("DELETE", `/v1/sprites/${sprite.name}/checkpoints/${id}`);
        if (answer?.status === 204) sprite.checkpoints.delete(id);
      }
    }
  };

  beforeAll(async () => {
    daemon = await DaemonProcess.open();
    for (let count = 0; count < 2; count += 1) {
      const sprite: Owed = { name: uniqueName("state"), content: new Set([-1]), checkpoints: new Map(), jobs: [], got: new Map() };
      await createSprite(daemon, sprite.name);
      owed.push(sprite);
      await steps["write"]?.(sprite);
      await steps["checkpoint"]?.(sprite);
    }
  });
  afterAll(async () => {
    await daemon?.closeClean().finally(() => daemon[Symbol.asyncDispose]());
  });

  const rounds = Array.from({ length: ROUNDS }, (_, round) => ({
    round,
    victim: random.chance(0.5) ? "daemon" : "VMs",
    delayMs: Math.round(random.next() ** 2 * MOMENT_MS_MAX),
    work: [0, 1].map(() => random.pick(Object.keys(steps))),
  }));

  const live = async ({ victim, delayMs, work }: (typeof rounds)[number]): Promise<void> => {
    const under = Promise.all(work.map(async (name, index) => await steps[name]?.(owed[index] as Owed)));
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    if (victim === "daemon") {
      await daemon.kill();
      await under;
      await daemon.start();
    } else {
      await daemon.killVms();
      await under;
    }
    await checkLegal();
    const checks = owed.slice(0, 2).map(async (sprite) => {
      await checkKept(sprite);
      await checkContent(sprite);
    });
    await Promise.all(checks);
    await trim();
    await expectNothingOrphaned(daemon);
  };

  test.each(rounds)("round $round: $victim after $delayMs ms of $work", async (round) => {
    dice = new Random(SEED + round.round + 1);
    await live(round).catch((cause: unknown) => {
      throw new Error(repeated("state-killed", SEED, round.round), { cause });
    });
  });

  test("every checkpoint that was acknowledged passes its check, and restores", async () => {
    const all = owed.map(async (sprite) => {
      for (const [id, content] of sprite.checkpoints) {
        const state = async () => (await ask(daemon, `/v1/sprites/${sprite.name}/checkpoints/${id}`)).json()["state"];
        await waitFor(`the check of ${id}`, { timeoutMs: 240_000, everyMs: 500 }, async () => (await state()) !== "verifying");
        expect(await state()).toBe("complete");
        expect(await progress(`/v1/sprites/${sprite.name}/checkpoints/${id}/restore`)).toBeDefined();
        sprite.content = new Set(content);
        await checkContent(sprite);
      }
    });
    await Promise.all(all);
    await expectNothingOrphaned(daemon);
  }, 900_000);
});
