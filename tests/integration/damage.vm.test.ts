/** Images that are missing or damaged, snapshots that are damaged, a disk that is full. */
import { createHash } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, run, waitFor } from "@sprited/base";
import { homeLayout } from "@sprited/disk";
import { afterEach, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw } from "../kit/exec-socket.ts";
import { type Answer, ask } from "../kit/http.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { cloneHome, type TestHome } from "../kit/prepared-home.ts";
import { uniqueName } from "../kit/target.ts";
import { refusal } from "./bad-requests.ts";

vi.setConfig({ testTimeout: 300_000, hookTimeout: 120_000 });

describe.skipIf(vmSkipReason() !== undefined)("damage", () => {
  const cleanups: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  const openDaemon = async (home: TestHome, environment: Record<string, string> = {}): Promise<DaemonProcess> => {
    const daemon = await DaemonProcess.open({ home, environment });
    cleanups.push(() => daemon[Symbol.asyncDispose]());
    return daemon;
  };
  const create = (daemon: DaemonProcess, extra: Record<string, unknown> = {}): Promise<Answer> =>
    ask(daemon, "/v1/sprites", { method: "POST", json: { name: uniqueName("broken"), ...extra } });
  const filesBelow = async (directory: string, end: string): Promise<string[]> => {
    const entries = await fs.readdir(directory, { recursive: true });
    return entries.filter((entry) => entry.endsWith(end)).map((entry) => path.join(directory, entry));
  };

  test("no image at all: the daemon runs, a create says what to do", async () => {
    const daemon = await openDaemon(await cloneHome({ withImages: false }));
    const answer = await create(daemon);
    const [status, code] = refusal(answer);
    expect([status, code]).toEqual([400, "image_unknown"]);
    expect(answer.json()["message"]).toContain("minimal");
    expect((await daemon.traces()).filter((trace) => trace.startsWith("disk: "))).toEqual([]);
  });

  test.each(["deleted", "cut short"])("an image file that is %s: a typed error, no sprite, and no crash", async (how) => {
    const home = await cloneHome();
    for (const file of await filesBelow(home.layout.images, ".raw")) {
      if (how === "deleted") await fs.rm(file);
      else await fs.truncate(file, 4096);
    }
    const daemon = await openDaemon(home);
    const answer = await create(daemon);
    expect(refusal(answer)).toEqual([500, "image_damaged"]);
    expect((await ask(daemon, "/v1/sprites")).json()["sprites"]).toEqual([]);
    expect((await daemon.traces()).filter((trace) => trace.startsWith("disk: "))).toEqual([]);
  });

  test("a damaged boot snapshot is made anew, not resumed", async () => {
    const home = await cloneHome();
    const daemon = await openDaemon(home);
    const name = uniqueName("snap");
    await ask(daemon, "/v1/sprites", { method: "POST", json: { name } });
    expect((await execRaw(daemon, name, { cmd: ["true"] })).code).toBe(0);
    await ask(daemon, `/v1/sprites/${name}/sleep`, { method: "POST", json: { cold: true } });
    await daemon.stop();
    for (const file of await filesBelow(home.layout.bootSnapshots, "/state")) await fs.truncate(file, 100);
    await daemon.start();
    // A kernel boots now, which may take longer than one request waits.
    const answer = await waitFor("the sprite to answer", { timeoutMs: 200_000, everyMs: 500 }, () =>
      execRaw(daemon, name, { cmd: ["echo", "up"] }).catch(ignore("still booting")),
    );
    expect(answer.stdout.toString()).toBe("up\n");
  });

  test("a sprite's disk that is gone: a typed error for it, the others work", async () => {
    const home = await cloneHome();
    const daemon = await openDaemon(home);
    const [lost, fine] = [uniqueName("lost"), uniqueName("fine")];
    for (const name of [lost, fine]) expect((await ask(daemon, "/v1/sprites", { method: "POST", json: { name } })).status).toBe(201);
    const { id } = (await ask(daemon, `/v1/sprites/${lost}`)).json();
    await fs.rm(path.join(home.layout.sprites, String(id), "disk.raw"));
    const answer = await ask(daemon, `/v1/sprites/${lost}/exec?cmd=true`, { method: "POST", body: "" });
    const [status, code] = refusal(answer);
    expect(status).toBeGreaterThanOrEqual(500);
    expect(["disk_damaged", "vm_failed_to_start", "sprite_failed"]).toContain(code);
    expect((await execRaw(daemon, fine, { cmd: ["echo", "fine"] })).stdout.toString()).toBe("fine\n");
    expect((await ask(daemon, `/v1/sprites/${lost}`, { method: "DELETE" })).status).toBe(204);
  });

  test("a host disk that fills up: creates are refused and leave nothing; with room again they work", async () => {
    const home = await smallHome();
    const daemon = await openDaemon(home);
    const first = uniqueName("first");
    expect((await ask(daemon, "/v1/sprites", { method: "POST", json: { name: first } })).status).toBe(201);
    expect((await execRaw(daemon, first, { cmd: ["true"] })).code).toBe(0);
    const ballast = path.join(home.layout.pool, "ballast");
    await fs.mkdir(ballast);
    const leave = async (bytes: number): Promise<void> => {
      const { bavail, bsize } = await fs.statfs(home.layout.pool);
      await run("fallocate", ["-l", String(bavail * bsize - bytes), path.join(ballast, String(bytes))]);
    };
    const expectOnlyFirst = async (): Promise<void> => {
      expect(((await ask(daemon, "/v1/sprites")).json()["sprites"] as { name: string }[]).map(({ name }) => name)).toEqual([first]);
      expect((await daemon.traces()).filter((trace) => trace.startsWith("disk: "))).toHaveLength(1);
      expect((await ask(daemon, "/healthz", { token: null })).status).toBe(200);
    };

    await leave(500 * 1024 * 1024); // below the floor of 1 GiB, which is never given away
    const refused = await create(daemon);
    expect(refusal(refused)).toEqual([507, "disk_full"]);
    await expectOnlyFirst();
    expect((await execRaw(daemon, first, { cmd: ["echo", "runs on"] })).stdout.toString()).toBe("runs on\n");

    await leave(128 * 1024); // nothing left at all, not even for the database
    for (let attempt = 0; attempt < 3; attempt += 1) expect(refusal(await create(daemon))[0]).toBeGreaterThanOrEqual(500);
    await expectOnlyFirst();

    await fs.rm(ballast, { recursive: true });
    await waitFor("room", { timeoutMs: 30_000, everyMs: 200 }, async () => (await create(daemon)).status === 201);
  });

  /** A home on an XFS file system of its own, just large enough. */
  async function smallHome(): Promise<TestHome> {
    const home = await cloneHome();
    const image = `${home.layout.root}.img`;
    const mountPoint = `${home.layout.root}.m`;
    await run("truncate", ["-s", "3G", image]);
    await run("mkfs.xfs", ["-q", "-m", "reflink=1", image]);
    await fs.mkdir(mountPoint);
    await run("mount", ["-o", "loop", image, mountPoint]);
    cleanups.push(async () => {
      await run("umount", [mountPoint]).catch(() => run("umount", ["-l", mountPoint]));
      await fs.rm(mountPoint, { recursive: true });
      await fs.rm(image);
    });
    await fs.chmod(mountPoint, 0o711);
    await run("cp", ["-a", "--sparse=always", home.layout.pool, home.layout.runtime, mountPoint], { timeoutMs: 180_000 });
    await home.remove();
    const layout = homeLayout(mountPoint);
    return { layout, id: createHash("sha256").update(mountPoint).digest("hex").slice(0, 8), remove: async () => {} };
  }
});
