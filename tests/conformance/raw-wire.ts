/**
 * What official clients of other languages depend on and the JavaScript one hides: exact status
 * codes, headers, the order and form of frames, close codes.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { execRaw, ExecSocket, RefusedError } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { type Target, uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";

export function rawWire(target: () => Target): void {
  const name = uniqueName("wire");
  const refusal = async (opening: Promise<ExecSocket>): Promise<RefusedError> => {
    const outcome = await opening.then(
      (socket) => {
        socket.drop();
        return new Error("the handshake succeeded");
      },
      (error: unknown) => error,
    );
    expect(outcome).toBeInstanceOf(RefusedError);
    return outcome as RefusedError;
  };

  beforeAll(async () => {
    await createSprite(target(), name);
  });
  afterAll(async () => {
    await ask(target(), `/v1/sprites/${name}`, { method: "DELETE" });
  });

  describe("status codes", () => {
    test("create 201, get 200, update 200 with an object, delete 204 without a body, then 404", async () => {
      const other = uniqueName("codes");
      const path = `/v1/sprites/${other}`;
      const created = await ask(target(), "/v1/sprites", { method: "POST", json: { name: other } });
      expect(created.status).toBe(201);
      expect(created.json()).toMatchObject({ name: other, organization: target().organization, org_slug: target().organization });
      expect((await ask(target(), path)).status).toBe(200);
      const updated = await ask(target(), path, { method: "PUT", json: { url_settings: { auth: "public" } } });
      expect(updated.status).toBe(200);
      expect(updated.json()).toMatchObject({ name: other, url_settings: { auth: "public" } });
      const deleted = await ask(target(), path, { method: "DELETE" });
      expect([deleted.status, deleted.text]).toEqual([204, ""]);
      expect((await ask(target(), path)).status).toBe(404);
    });

    test("times are RFC 3339 or null, never empty", async () => {
      const sprite = (await ask(target(), `/v1/sprites/${name}`)).json();
      for (const field of ["created_at", "updated_at", "last_running_at", "last_warming_at"]) {
        const value = sprite[field];
        if (value === undefined || value === null) continue;
        expect(value).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/);
      }
    });

    test("errors are JSON with error and message; numbers are integers", async () => {
      const missing = await ask(target(), `/v1/sprites/${uniqueName("nobody")}`);
      expect(missing.headers["content-type"]).toContain("application/json");
      expect(missing.json()).toMatchObject({ error: "sprite_not_found", message: expect.stringMatching(/./) });
    });
  });

  describe("headers", () => {
    test.each([
      ["GET", "/healthz", true],
      ["GET", "/openapi.json", true],
      ["GET", "/v1/sprites", true],
      ["GET", "/v1/sprites", false],
      ["GET", "/v1/sprites/nobody-here", true],
      ["GET", "/no/such/path", true],
      ["PATCH", "/v1/sprites", true],
      ["POST", "/v1/sprites", true],
    ])("Sprite-Version is a release on %s %s (token: %s)", async (method, path, withToken) => {
      const answer = await ask(target(), path, { method, token: withToken ? undefined : null });
      expect(answer.headers["sprite-version"]).toMatch(/^\d+\.\d+\.\d+$/);
    });

    test("HEAD of exec answers without a body and with the version", async () => {
      const answer = await ask(target(), `/v1/sprites/${name}/exec`, { method: "HEAD" });
      expect(answer.status).toBe(200);
      expect(answer.body).toHaveLength(0);
      expect(answer.headers["sprite-version"]).toMatch(/^\d+\.\d+\.\d+$/);
    });

    test("the exec handshake offers in-band signals and no compression", async () => {
      const exec = await ExecSocket.open(target(), name, { cmd: ["true"], stdin: "false" });
      expect(
        String(exec.headers["x-sprite-capabilities"])
          .split(",")
          .map((part) => part.trim()),
      ).toContain("signal");
      expect(exec.headers["sec-websocket-extensions"]).toBeUndefined();
      await exec.end();
    });

    test("permessage-deflate may be offered as undici does", async () => {
      const exec = await ExecSocket.open(
        target(),
        name,
        { cmd: ["echo", "x"], stdin: "false" },
        {
          headers: { "sec-websocket-extensions": "permessage-deflate; client_max_window_bits" },
        },
      );
      await exec.end();
      expect(exec.stream(1).toString()).toBe("x\n");
    });
  });

  describe("exec without a terminal", () => {
    test("the worked example, frame by frame", async () => {
      const exec = await ExecSocket.open(target(), name, "?cmd=sh&cmd=-c&cmd=cat%3B+exit+42&path=sh&stdin=true");
      exec.sendInput("hi");
      await exec.until("the echo", () => exec.stream(1).toString() === "hi");
      exec.sendInputEnd();
      expect(await exec.end()).toBe(1000);
      const [first, ...rest] = exec.messages.filter((message) => message.kind === "text" || message.data.length > 0);
      expect(JSON.parse(first?.kind === "text" ? first.text : "{}")).toEqual({
        type: "session_info",
        session_id: expect.stringMatching(/^[0-9]+$/),
        command: "sh -c cat; exit 42",
        created: expect.any(Number),
        cols: expect.any(Number),
        rows: expect.any(Number),
        is_owner: true,
        tty: false,
        offset: 0,
      });
      expect(Number.isInteger(exec.jsonMessages[0]?.["created"])).toBe(true);
      const frames = rest.flatMap((message) => (message.kind === "binary" ? [message.data.toString("hex")] : []));
      expect(frames).toEqual(["016869", "032a"]);
    });

    test("Go's way: sorted keys, stdin=false and a stray end of input, then a dropped connection", async () => {
      const exec = await ExecSocket.open(
        target(),
        name,
        "?cmd=sh&cmd=-c&cmd=echo+%24A+%26%26+pwd&dir=%2Ftmp&env=A%3Dx+y&path=sh&stdin=false",
      );
      exec.sendInputEnd();
      await exec.until("the exit frame", () => exec.exitPayload !== undefined);
      expect(exec.stream(1).toString()).toBe("x y\n/tmp\n");
      exec.drop();
      expect((await execRaw(target(), name, { cmd: ["echo", "next"] })).stdout.toString()).toBe("next\n");
    });

    test("a second end of input and input after the end are ignored", async () => {
      const exec = await ExecSocket.open(target(), name, { cmd: ["cat"], stdin: "true" });
      exec.sendInput("a");
      exec.sendInputEnd();
      exec.sendInputEnd();
      exec.sendInput("b");
      await exec.end();
      expect([exec.stream(1).toString(), exec.exitPayload?.toString("hex")]).toEqual(["a", "00"]);
    });

    test("the exit frame is one byte, the last one, and 1000 follows soon", async () => {
      const exec = await ExecSocket.open(target(), name, { cmd: ["sh", "-c", "echo out; echo err >&2; exit 255"], stdin: "false" });
      await exec.until("the exit frame", () => exec.exitPayload !== undefined);
      expect(await exec.end(3_000)).toBe(1000);
      const last = exec.messages.filter((message) => message.kind === "binary" && message.data.length > 0).at(-1);
      expect(last?.kind === "binary" ? last.data.toString("hex") : undefined).toBe("03ff");
    });

    test("no frame is larger than 64 KiB", async () => {
      const exec = await ExecSocket.open(target(), name, { cmd: ["head", "-c", "1000000", "/dev/zero"], stdin: "false" });
      await exec.end();
      expect(exec.stream(1)).toHaveLength(1_000_000);
      expect(Math.max(...exec.messages.map((message) => (message.kind === "binary" ? message.data.length : 0)))).toBeLessThanOrEqual(
        65_536,
      );
    });

    test("an input frame of 8 MiB is taken", async () => {
      const { stdout } = await execRaw(target(), name, { cmd: ["wc", "-c"] }, Buffer.alloc(8 * 1024 * 1024, 1));
      expect(stdout.toString().trim()).toBe(String(8 * 1024 * 1024));
    });

    test("a signal goes in-band, with and without SIG", async () => {
      for (const signal of ["TERM", "SIGTERM"]) {
        const exec = await ExecSocket.open(target(), name, { cmd: ["sleep", "100"], stdin: "false" });
        exec.sendJson({ type: "signal", signal });
        await exec.end();
        expect(exec.exitPayload?.[0]).toBe(143);
      }
    });

    test("path may be there or not", async () => {
      expect((await execRaw(target(), name, { cmd: ["echo", "no path"] })).stdout.toString()).toBe("no path\n");
    });
  });

  describe("exec in a terminal", () => {
    test.each([
      ["exit 0", 0, 1000],
      ["exit 3", 3, 4003],
    ])("%s: session_info, raw bytes, exit text with both fields, close code %i → %i", async (script, code, closeCode) => {
      const exec = await ExecSocket.open(target(), name, {
        cmd: ["sh", "-c", `printf raw; ${script}`],
        stdin: "true",
        tty: "true",
        rows: "24",
        cols: "80",
      });
      expect(await exec.end()).toBe(closeCode);
      expect(exec.messages[0]?.kind).toBe("text");
      expect(exec.jsonMessages[0]).toMatchObject({ type: "session_info", tty: true, session_id: expect.any(String) });
      expect(exec.terminal).toBe("raw");
      expect(exec.jsonMessages.at(-1)).toMatchObject({ type: "exit", exit_code: code, code });
    });
  });

  describe("attach", () => {
    test("by path and by the legacy query; session_info is first, then what was printed", async () => {
      const owner = await ExecSocket.open(target(), name, { cmd: ["sh", "-c", "echo before; cat"], stdin: "true" });
      await owner.until("the output", () => owner.stream(1).includes("before\n"));
      for (const rest of [`/${owner.sessionId}?stdin=true`, `?id=${owner.sessionId}&stdin=true`, `?session_id=${owner.sessionId}`]) {
        const guest = await ExecSocket.open(target(), name, rest);
        await guest.until("the scrollback", () => guest.stream(1).includes("before\n"));
        expect(guest.messages[0]?.kind).toBe("text");
        expect(guest.jsonMessages[0]).toMatchObject({ type: "session_info", session_id: owner.sessionId, tty: false });
        guest.drop();
      }
      owner.sendInputEnd();
      await owner.end();
    });

    test("a missing session is 404 with a JSON body", async () => {
      const refused = await refusal(ExecSocket.open(target(), name, "/424242?stdin=true"));
      expect([refused.status, refused.code]).toEqual([404, "session_not_found"]);
    });
  });

  describe("refused handshakes", () => {
    test("/control is 404 with an empty body, at once", async () => {
      const startedMs = performance.now();
      const refused = await refusal(
        ExecSocket.openPath(target(), `/v1/sprites/${name}/control`, { headers: { "user-agent": "sprites-go-sdk/1.0" } }),
      );
      expect([refused.status, refused.body]).toEqual([404, ""]);
      expect(performance.now() - startedMs).toBeLessThan(2_000);
    });

    test("an unknown sprite is 404 with a JSON body", async () => {
      const refused = await refusal(ExecSocket.open(target(), uniqueName("nobody"), { cmd: ["true"] }));
      expect([refused.status, refused.code]).toEqual([404, "sprite_not_found"]);
    });

    test("a bad token is 401 with a JSON body", async () => {
      const refused = await refusal(ExecSocket.open(target(), name, { cmd: ["true"] }, { token: "wrong" }));
      expect([refused.status, refused.code]).toEqual([401, "unauthorized"]);
    });
  });
}
