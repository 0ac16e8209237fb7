/** `execFileHTTP`: commands over one POST, frames without lengths. */
import { randomBytes } from "node:crypto";
import { ExecError, type Sprite } from "@fly/sprites";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ask, askStream } from "../kit/http.ts";
import { sdkOf, type Target, uniqueName } from "../kit/target.ts";
import { sha256 } from "./exec-calls.ts";
import { apiErrorOf } from "./sprite-calls.ts";

export function httpExecCalls(target: () => Target): void {
  let sprite: Sprite;
  beforeAll(async () => {
    sprite = await sdkOf(target()).createSprite(uniqueName("post"));
  });
  afterAll(async () => {
    await sprite?.delete();
  });

  test("output, error output and exit code", async () => {
    expect(await sprite.execFileHTTP("sh", ["-c", "echo out; echo err >&2"])).toEqual({ stdout: "out\n", stderr: "err\n", exitCode: 0 });
    const error = await sprite.execFileHTTP("sh", ["-c", "echo x; exit 7"]).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ExecError);
    expect(error).toMatchObject({ exitCode: 7, stdout: "x\n" });
  });

  test("20 in a row never merge a frame into the output", async () => {
    for (let index = 0; index < 20; index += 1) {
      const result = await sprite.execFileHTTP("sh", ["-c", `echo ${index}; echo e${index} >&2`]);
      expect(result).toEqual({ stdout: `${index}\n`, stderr: `e${index}\n`, exitCode: 0 });
    }
  });

  test("input arrives; without input the command sees its end", async () => {
    const input = randomBytes(300_000);
    expect((await sprite.execFileHTTP("sha256sum", [], { input })).stdout).toBe(`${sha256(input)}  -\n`);
    expect((await sprite.execFileHTTP("cat", [], { input: "text" })).stdout).toBe("text");
    expect((await sprite.execFileHTTP("wc", ["-c"])).stdout).toBe("0\n");
  });

  test("environment and directory", async () => {
    expect((await sprite.execFileHTTP("sh", ["-c", "pwd; echo $A"], { cwd: "/tmp", env: { A: "b c" } })).stdout).toBe("/tmp\nb c\n");
  });

  test("200 KB of output in many frames is complete", async () => {
    const result = await sprite.execFileHTTP("sh", ["-c", "yes abcdefghijklmno | head -c 204800"]);
    expect(result.stdout).toHaveLength(204_800);
    expect(sha256(result.stdout as string)).toBe(sha256(Buffer.alloc(204_800, "abcdefghijklmno\n")));
  });

  test("a client that leaves ends in an abort, the sprite stays usable", async () => {
    await expect(sprite.execFileHTTP("sleep", ["30"], { timeout: 1500 })).rejects.toThrow();
    expect((await sprite.execFileHTTP("echo", ["after"])).stdout).toBe("after\n");
  });

  test("errors are structured", async () => {
    const missing = await apiErrorOf(sdkOf(target()).sprite(uniqueName("nobody")).execFileHTTP("true"));
    expect(missing).toMatchObject({ statusCode: 404, errorCode: "sprite_not_found" });
    const empty = await ask(target(), `/v1/sprites/${sprite.name}/exec`, { method: "POST", body: "" });
    expect(empty.status).toBe(400);
    expect(empty.json()["error"]).toBe("exec_no_command");
  });

  test("on the wire: octet-stream, one frame a chunk, exit frame of two bytes last", async () => {
    const response = await askStream(target(), `/v1/sprites/${sprite.name}/exec?cmd=sh&cmd=-c&cmd=echo+hi%3B+exit+7&path=sh`, {
      method: "POST",
      headers: { "content-type": "application/octet-stream", "content-length": "0" },
    });
    expect(response.statusCode).toBe(200);
    expect(response.headers["content-type"]).toBe("application/octet-stream");
    expect(response.headers["content-encoding"]).toBeUndefined();
    const chunks: string[] = [];
    for await (const chunk of response) chunks.push((chunk as Buffer).toString("hex"));
    expect(chunks).toEqual(["0168690a", "0307"]);
  });
}
