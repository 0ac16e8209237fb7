/** Silent commands stay alive: a message at least every 20 s, whatever the client can send. */
import { sleep } from "@sprited/base";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ExecSocket } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { spawnToEnd } from "../kit/sdk-command.ts";
import { sdkOf, type Target, uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";

export function liveness(target: () => Target): void {
  const name = uniqueName("silent");
  beforeAll(async () => {
    await createSprite(target(), name);
  });
  afterAll(async () => {
    await ask(target(), `/v1/sprites/${name}`, { method: "DELETE" });
  });

  test.concurrent("a silent command sends empty binary messages, with and without a terminal", { timeout: 60_000 }, async () => {
    const sockets = await Promise.all(
      [{}, { tty: "true" }].map((tty) => ExecSocket.open(target(), name, { cmd: ["sleep", "100"], stdin: "false", ...tty })),
    );
    await sleep(21_000);
    for (const exec of sockets) {
      expect(exec.closeCode).toBeUndefined();
      expect(exec.messages.some((message) => message.kind === "binary" && message.data.length === 0)).toBe(true);
      exec.sendJson({ type: "signal", signal: "KILL" });
    }
    await Promise.all(sockets.map((exec) => exec.end()));
  });
}

/** The official client's own watchdog, which no ping can soothe: 50 s of silence, for real. */
export function longSilence(target: () => Target): void {
  test("a command that is silent for 50 s survives in the official client", { timeout: 120_000 }, async () => {
    const client = sdkOf(target());
    const sprite = await client.createSprite(uniqueName("quiet"));
    try {
      const [plain, terminal] = await Promise.all([
        spawnToEnd(sprite, ["sh", "-c", "sleep 50; echo awake"]),
        spawnToEnd(sprite, ["sh", "-c", "sleep 50; echo awake"], { tty: true }),
      ]);
      expect(plain).toMatchObject({ code: 0, stdout: Buffer.from("awake\n") });
      expect(terminal).toMatchObject({ code: 0, stdout: Buffer.from("awake\r\n") });
    } finally {
      await sprite.delete();
    }
  });
}
