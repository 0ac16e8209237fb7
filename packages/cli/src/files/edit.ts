/** A file of a sprite in the user's own editor. Uploaded only when it was changed, and only over what it was. */
// oxlint-disable-next-line house/no-raw-spawn -- the editor takes over the terminal; run() of base is not for the CLI
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { ApiError } from "@sprited/protocol/errors";
import { CliError } from "../output/cli-error.ts";
import { editorCommand } from "../settings/environment.ts";
import { pullFile } from "./pull.ts";
import { callPath, type Remote, statRemote, upload } from "./remote.ts";

/** Returns whether the file was changed. */
export async function editFile(remote: Remote, target: string, options: { parents: boolean }): Promise<boolean> {
  const before = await statRemote(remote, target);
  if (before && before.type !== "file") throw new CliError(`${target} is a ${before.type}, not a file.`, { code: "not_a_file" });
  const directory = await fs.promises.mkdtemp(path.join(os.tmpdir(), "sprite-edit-"));
  const local = path.join(directory, path.posix.basename(target));
  let isKept = false;
  try {
    if (before) await pullFile(remote, target, local, { parents: false });
    else await fs.promises.writeFile(local, "", { mode: 0o600 });
    await fs.promises.chmod(local, 0o600);
    const original = await hashOf(local);
    await runEditor(local);
    if ((await hashOf(local)) === original) return false;
    isKept = true;
    await put(remote, { local, target, etag: before?.etag, parents: options.parents });
    isKept = false;
    return true;
  } finally {
    if (!isKept) await fs.promises.rm(directory, { recursive: true, force: true });
  }
}

async function put(remote: Remote, file: { local: string; target: string; etag: string | undefined; parents: boolean }): Promise<void> {
  const { local, target, etag, parents } = file;
  const hint = `Your version is in ${local}.`;
  if (etag === undefined && (await statRemote(remote, target)))
    throw new CliError(`${target} was made in the sprite meanwhile.`, { hint, code: "file_changed" });
  try {
    const headers = {
      ...(etag === undefined ? {} : { "if-match": `"${etag}"` }),
      "content-length": String((await fs.promises.stat(local)).size),
    };
    // Once or not at all: an id that nobody goes on with.
    const query = { path: target, mkdirParents: parents, upload: randomBytes(16).toString("hex") };
    await upload(remote, callPath(remote, "write", query), fs.createReadStream(local), { headers });
  } catch (error) {
    const why = ApiError.is(error) && error.code === "file_changed" ? "was changed in the sprite meanwhile" : "was not saved";
    throw new CliError(`${target} ${why}${why === "was not saved" && error instanceof Error ? `: ${error.message}` : ""}.`, {
      hint,
      code: ApiError.is(error) ? error.code : "not_saved",
      cause: error,
    });
  }
}

async function runEditor(file: string): Promise<void> {
  const editor = editorCommand();
  // As git and crontab do it: the variable may hold options.
  const child = spawn("/bin/sh", ["-c", `${editor} "$1"`, "edit", file], { stdio: "inherit" });
  const code = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (exit, signal) => resolve(exit ?? (signal ? 1 : 0)));
  });
  if (code !== 0)
    throw new CliError(`The editor (${editor}) ended with ${code}; nothing was saved.`, {
      hint: "Choose another with $VISUAL or $EDITOR.",
      code: "editor",
    });
}

async function hashOf(file: string): Promise<string> {
  return createHash("sha256")
    .update(await fs.promises.readFile(file))
    .digest("hex");
}
