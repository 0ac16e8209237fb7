/** A test home on a file system of its own, just large enough, and files that fill it up. */
import { createHash } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { run, waitFor } from "@sprited/base";
import { homeLayout } from "@sprited/disk";
import { cloneHome, type TestHome } from "./prepared-home.ts";

export interface SmallHome extends AsyncDisposable {
  home: TestHome;
  /** Fills the disk until only so many bytes are left. */
  leave(bytes: number): Promise<void>;
  /** Takes the filling away. */
  empty(): Promise<void>;
}

async function freeOf(mountPoint: string): Promise<number> {
  const { bavail, bsize } = await fs.statfs(mountPoint);
  return bavail * bsize;
}

/** Makes one of `gigabytes`. */
export async function openSmallHome(gigabytes = 3): Promise<SmallHome> {
  const cloned = await cloneHome();
  const image = `${cloned.layout.root}.img`;
  const mountPoint = `${cloned.layout.root}.m`;
  await run("truncate", ["-s", `${gigabytes}G`, image]);
  await run("mkfs.xfs", ["-q", "-m", "reflink=1", image]);
  await fs.mkdir(mountPoint);
  await run("mount", ["-o", "loop", image, mountPoint]);
  await fs.chmod(mountPoint, 0o711);
  await run("cp", ["-a", "--sparse=always", cloned.layout.pool, cloned.layout.runtime, mountPoint], { timeoutMs: 180_000 });
  await cloned.remove();
  const layout = homeLayout(mountPoint);
  const ballast = path.join(layout.pool, "ballast");
  await fs.mkdir(ballast);
  let files = 0;
  return {
    home: { layout, id: createHash("sha256").update(mountPoint).digest("hex").slice(0, 8), remove: async () => {} },
    async leave(bytes) {
      const free = await freeOf(mountPoint);
      files += 1;
      if (free > bytes) await run("fallocate", ["-l", String(free - bytes), path.join(ballast, String(files))]);
    },
    async empty() {
      const freeBefore = await freeOf(mountPoint);
      let filling = 0;
      for (const name of await fs.readdir(ballast)) {
        const file = path.join(ballast, name);
        filling += (await fs.stat(file)).size;
        await fs.rm(file);
      }
      // XFS gives the blocks of a removed file back in the background.
      const enough = freeBefore + filling * 0.9;
      await waitFor(
        "the room of what filled the disk",
        { timeoutMs: 60_000, everyMs: 5 },
        async () => (await freeOf(mountPoint)) >= enough,
      );
    },
    async [Symbol.asyncDispose]() {
      await run("umount", [mountPoint]).catch(() => run("umount", ["-l", mountPoint]));
      await fs.rm(mountPoint, { recursive: true });
      await fs.rm(image);
    },
  };
}
