/**
 * A disk that is full at any moment: what cannot be done is refused with a reason, nothing that
 * was acknowledged is lost, and everything works again when there is room.
 */
import { ignore, waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { openSmallHome, type SmallHome } from "../kit/small-home.ts";
import { uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";
import { refusal } from "./bad-requests.ts";

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

/** Nothing left at all, not even for the database. */
const FULL_BYTES = 64 * 1024;
/** Refusals that say what is wrong, or that the machine could not go on. */
const REASONS = ["disk_full", "vm_failed_to_start", "vm_lost", "busy"];

describe.skipIf(vmSkipReason() !== undefined)("a full disk", () => {
  let small: SmallHome;
  let daemon: DaemonProcess;
  const name = uniqueName("full");

  const shell = async (script: string, sprite = name) => {
    const { code, stdout } = await execRaw(daemon, sprite, { cmd: ["sh", "-c", script] });
    return { code, text: stdout.toString() };
  };
  const post = (path: string, json: unknown) => ask(daemon, `/v1/sprites${path}`, { method: "POST", json });
  const status = async (): Promise<unknown> => (await ask(daemon, `/v1/sprites/${name}`)).json()["status"];
  /** The last line of a progress stream. */
  const progress = async (path: string, json: unknown): Promise<Record<string, unknown>> => {
    const answer = await post(`/${name}${path}`, json);
    if (answer.status !== 200) return { type: "error", ...answer.json() };
    return JSON.parse(answer.text.trim().split("\n").at(-1) ?? "{}") as Record<string, unknown>;
  };
  const expectNothingLost = async (text: string): Promise<void> => {
    expect(
      await waitFor("the sprite to answer", { timeoutMs: 60_000, everyMs: 500 }, () => shell("cat ~/n").catch(ignore("not yet"))),
    ).toEqual({
      code: 0,
      text,
    });
    expect((await ask(daemon, "/healthz", { token: null })).status).toBe(200);
  };

  beforeAll(async () => {
    small = await openSmallHome();
    daemon = await DaemonProcess.open({ home: small.home });
    await createSprite(daemon, name);
    expect((await shell("echo kept > ~/n && sync")).code).toBe(0);
  });
  afterAll(async () => {
    await small?.empty();
    await daemon?.closeClean().finally(() => daemon[Symbol.asyncDispose]());
    await small?.[Symbol.asyncDispose]();
  });

  test("[CKPT-1] a checkpoint is refused and leaves nothing; with room it is made", async () => {
    await small.leave(FULL_BYTES);
    const refused = await progress("/checkpoint", { memory: false });
    expect(refused["type"]).toBe("error");
    expect(refused["code"] ?? refused["error"]).toBe("disk_full");
    expect(JSON.parse((await ask(daemon, `/v1/sprites/${name}/checkpoints`)).text)).toHaveLength(1);
    await small.empty();
    expect((await progress("/checkpoint", { memory: false }))["type"]).toBe("complete");
    await expectNothingLost("kept\n");
  });

  test("[LIFE-17] a sprite that cannot be put to sleep stays awake; with room it sleeps and wakes as it was", async () => {
    expect((await shell("nohup sleep 1000 > /dev/null 2>&1 & echo $! > ~/pid; sync")).code).toBe(0);
    await small.leave(FULL_BYTES);
    const answer = await post(`/${name}/sleep`, {});
    if (answer.status !== 200) expect(REASONS).toContain(refusal(answer)[1]);
    expect((await shell("kill -0 $(cat ~/pid)")).code).toBe(0);
    await small.empty();
    expect((await post(`/${name}/sleep`, {})).status).toBe(200);
    expect(await status()).toBe("warm");
    expect((await shell("kill -0 $(cat ~/pid)")).code).toBe(0);
  });

  test("[LIFE-19] [LIFE-29] a wake on a full disk loses nothing: it works, or works when there is room", async () => {
    expect((await post(`/${name}/sleep`, {})).status).toBe(200);
    await small.leave(FULL_BYTES);
    const answer = await post(`/${name}/wake`, {});
    if (answer.status !== 200) expect(REASONS).toContain(refusal(answer)[1]);
    await small.empty();
    expect((await shell("kill -0 $(cat ~/pid)")).code).toBe(0);
    await expectNothingLost("kept\n");
  });

  test("[EXEC-2] output that cannot be kept holds the command back, and goes on with room", async () => {
    const job = await post(`/${name}/jobs`, { cmd: ["sh", "-c", "sleep 3; seq 1 400000"] });
    expect(job.status).toBe(201);
    const id = String(job.json()["id"]);
    await small.leave(FULL_BYTES);
    await new Promise((resolve) => setTimeout(resolve, 8_000));
    await small.empty();
    const done = await waitFor("the job's end", { timeoutMs: 120_000, everyMs: 500 }, async () => {
      const { body } = { body: (await ask(daemon, `/v1/sprites/${name}/jobs/${id}`)).json() };
      return body["state"] === "running" ? undefined : body;
    });
    expect(done, `lost: ${String(done["reason"])}`).toMatchObject({ state: "exited", exit_code: 0 });
    const log = (await ask(daemon, `/v1/sprites/${name}/jobs/${id}/log?stream=stdout`)).text;
    expect(log).toBe(Array.from({ length: 400_000 }, (_, index) => `${index + 1}\n`).join(""));
  });

  test("[LIFE-10] a daemon that is killed on a full disk starts when there is room, with everything", async () => {
    await small.leave(FULL_BYTES);
    await post("", { name: uniqueName("never") }).catch(ignore("refused"));
    await daemon.kill();
    await small.empty();
    await daemon.start();
    expect(((await ask(daemon, "/v1/sprites")).json()["sprites"] as unknown[]).length).toBe(1);
    expect((await shell("kill -0 $(cat ~/pid)")).code).toBe(0);
    await expectNothingLost("kept\n");
  });
});
