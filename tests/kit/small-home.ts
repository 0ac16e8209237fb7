/** A test home on a file system of its own, just large enough, and files that fill it up. */
import { createHash } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { run } from "@sprited/base";
import { homeLayout } from "@sprited/disk";
import { cloneHome, type TestHome } from "./prepared-home.ts";

export interface SmallHome extends AsyncDisposable {
  home: TestHome;
  /** Fills the disk until only so many bytes are left. */
  leave(bytes: number): Promise<void>;
  /** Takes the filling away. */
  empty(): Promise<void>;
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
      const { bavail, bsize } = await fs.statfs(mountPoint);
      files += 1;
      if (bavail * bsize > bytes) await run("fallocate", ["-l", String(bavail * bsize - bytes), path.join(ballast, String(files))]);
    },
    async empty() {
      for (const name of await fs.readdir(ballast)) await fs.rm(path.join(ballast, name));
    },
    async [Symbol.asyncDispose]() {
      await run("umount", [mountPoint]).catch(() => run("umount", ["-l", mountPoint]));
      await fs.rm(mountPoint, { recursive: true });
      await fs.rm(image);
    },
  };
}
