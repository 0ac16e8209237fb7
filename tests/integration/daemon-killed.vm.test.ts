/**
 * [LIFE-10] kill -9 of the daemon at many moments of create, wake, exec, stop and delete. After
 * each restart: every sprite is legal, answers, and the host holds nothing that no record names.
 * `SPRITED_TEST_SEED` and `SPRITED_TEST_ROUNDS` choose another run or a longer one.
 */
import { ignore } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { expectNothingOrphaned, repeated } from "../kit/nothing-orphaned.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { Random } from "../kit/random.ts";
import { uniqueName } from "../kit/target.ts";

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const SEED = Number(process.env["SPRITED_TEST_SEED"] ?? 20_26);
const ROUNDS = Number(process.env["SPRITED_TEST_ROUNDS"] ?? 16);
/** Longest wait before the kill, ms: past the end of any single step. */
const MOMENT_MS_MAX = 2_500;

describe.skipIf(vmSkipReason() !== undefined)("kill -9 of the daemon at any moment", () => {
  let daemon: DaemonProcess;
  /** Sprites that were acknowledged and not asked to be deleted, with what was flushed into them. */
  const owed = new Map<string, string | undefined>();
  /** Sprites whose fate is open: the kill came between question and answer. */
  const open = new Set<string>();

  const call = (method: string, path: string, json?: unknown): Promise<number | undefined> =>
    ask(daemon, path, { method, json }).then(
      ({ status }) => status,
      () => undefined,
    );

  /** One user's work on one sprite; stops where the daemon dies. */
  const live = async (name: string): Promise<void> => {
    open.add(name);
    if ((await call("POST", "/v1/sprites", { name })) !== 201) return;
    open.delete(name);
    owed.set(name, undefined);
    const wrote = await execRaw(daemon, name, { cmd: ["sh", "-c", `echo ${name} > ~/mine && sync`] }).catch(ignore("the daemon died"));
    if (wrote?.code !== 0) return;
    owed.set(name, name);
    if ((await call("POST", `/v1/sprites/${name}/sleep`, { cold: true })) !== 200) return;
    await execRaw(daemon, name, { cmd: ["cat", "/etc/hostname"] }).catch(ignore("the daemon died"));
    owed.delete(name);
    open.add(name);
    if ((await call("DELETE", `/v1/sprites/${name}`)) === 204) open.delete(name);
  };

  const expectLegal = async (): Promise<void> => {
    const answer = (await ask(daemon, "/v1/sprites?max_results=500")).json();
    const sprites = answer["sprites"] as { name: string; status: string; failure?: string; id: string }[];
    for (const sprite of sprites) {
      expect(["cold", "running"]).toContain(sprite.status);
      expect(sprite.failure).toBeUndefined();
    }
    const names = sprites.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining([...owed.keys()]));
    for (const name of names) expect(owed.has(name) || open.has(name), `${name} was deleted and is back`).toBe(true);
    const running = sprites.filter(({ status }) => status === "running").length;
    expect(await daemon.vmPids()).toHaveLength(running);
    const traces = await daemon.traces();
    expect(traces.filter((trace) => trace.startsWith("run directory: "))).toHaveLength(running);
    expect(traces.filter((trace) => trace.startsWith("disk: ")).sort()).toEqual(sprites.map(({ id }) => `disk: ${id}`).sort());
    expect(traces.filter((trace) => trace.startsWith("snapshot: "))).toEqual([]);
  };

  beforeAll(async () => {
    daemon = await DaemonProcess.open();
  });
  afterAll(async () => {
    await daemon?.closeClean().finally(() => daemon[Symbol.asyncDispose]());
  });

  const random = new Random(SEED);
  const moments = Array.from({ length: ROUNDS }, (_, round) => ({
    round,
    delayMs: Math.round(random.next() ** 2 * MOMENT_MS_MAX),
    users: random.between(1, 3),
  }));

  const round = async ({ delayMs, users }: (typeof moments)[number]): Promise<void> => {
    const work = Array.from({ length: users }, () => live(uniqueName("user")));
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    await daemon.kill();
    await Promise.all(work);
    await daemon.start();
    await expectLegal();
    const reads = [...owed].map(async ([name, text]) => {
      const result = await execRaw(daemon, name, { cmd: ["cat", text === undefined ? "/etc/hostname" : "/home/sprite/mine"] });
      expect(result.code, name).toBe(0);
      if (text !== undefined) expect(result.stdout.toString()).toBe(`${text}\n`);
    });
    await Promise.all(reads);
    const deletions = [...owed.keys(), ...open].map(async (name) => {
      expect([204, 404]).toContain(await call("DELETE", `/v1/sprites/${name}`));
    });
    await Promise.all(deletions);
    owed.clear();
    open.clear();
    await expectLegal();
    await expectNothingOrphaned(daemon);
  };

  test.each(moments)("round $round: after $delayMs ms with $users users", async (moment) => {
    await round(moment).catch((cause: unknown) => {
      throw new Error(repeated("daemon-killed", SEED, moment.round), { cause });
    });
  });

  test("kill -9 while the daemon itself is starting", async () => {
    const name = uniqueName("steady");
    await call("POST", "/v1/sprites", { name });
    expect((await execRaw(daemon, name, { cmd: ["true"] })).code).toBe(0);
    owed.set(name, undefined);
    for (const delayMs of [100, 300, 500, 700, 900, 1_200]) {
      await daemon.kill();
      daemon.launch();
      await new Promise((resolve) => setTimeout(resolve, delayMs));
    }
    await daemon.kill();
    await daemon.start();
    await expectLegal();
    expect((await execRaw(daemon, name, { cmd: ["echo", "up"] })).stdout.toString()).toBe("up\n");
    owed.clear();
    open.clear();
    await call("DELETE", `/v1/sprites/${name}`);
    await expectNothingOrphaned(daemon);
  });
});
