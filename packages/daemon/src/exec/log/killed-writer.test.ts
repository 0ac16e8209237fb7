import { spawn } from "node:child_process";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { silentLogger, waitFor } from "@sprited/base";
import { expect, test } from "vitest";
import { FileLog } from "./file-log.ts";

const WRITER = path.join(import.meta.dirname, "../testing/log-writer-child.ts");

test("[LOG-2] kill -9 of the writer at any instant: all that was called safe is there, and right", { timeout: 60_000 }, async () => {
  const root = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-killed-"));
  try {
    for (let round = 0; round < 8; round += 1) {
      const directory = path.join(root, String(round));
      const child = spawn(process.execPath, [WRITER, directory], { stdio: ["ignore", "pipe", "inherit"] });
      let text = "";
      child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
      await waitFor("output", { timeoutMs: 20_000, everyMs: 1 }, () => text.length > 0);
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 150));
      child.kill("SIGKILL");
      await new Promise((resolve) => child.once("close", resolve));
      const safe = JSON.parse(text.slice(0, text.lastIndexOf("\n")).split("\n").at(-1) ?? "{}") as { stdout: number; stderr: number };
      const log = await FileLog.reopen({ directory, bytesMax: 4 * 1024 * 1024, logger: silentLogger });
      expect(log.offsets.stdout).toBeGreaterThanOrEqual(safe.stdout);
      expect(log.offsets.stderr).toBeGreaterThanOrEqual(safe.stderr);
      for await (const piece of log.read({ from: "start", holdsBack: false, follow: false }).pieces) {
        expect(piece.kind).toBe("output");
        if (piece.kind === "output") expect(piece.data.every((byte, at) => byte === (piece.offset + at) % 251)).toBe(true);
      }
    }
  } finally {
    await fs.rm(root, { recursive: true, force: true });
  }
});
