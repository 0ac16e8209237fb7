/** Bad names, sizes, bodies, types and queries: a typed answer each, and nothing is left behind. */
import { API_LIMITS } from "@sprited/protocol/api";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Answer, ask, askStream } from "../kit/http.ts";
import { type Target, uniqueName } from "../kit/target.ts";

/** Status and code of an error answer, after its form was checked. */
export function refusal(answer: Answer): [status: number, code: unknown] {
  const body = answer.json();
  expect(body).toMatchObject({ error: expect.stringMatching(/^[a-z_]+$/), message: expect.stringMatching(/./) });
  return [answer.status, body["error"]];
}

export function badRequests(target: () => Target): void {
  const create = (body: Record<string, unknown>): Promise<Answer> => ask(target(), "/v1/sprites", { method: "POST", json: body });
  const names = async (): Promise<unknown[]> =>
    ((await ask(target(), "/v1/sprites?max_results=500")).json()["sprites"] as { name: unknown }[]).map(({ name }) => name);
  let before: unknown[] = [];
  beforeAll(async () => {
    before = await names();
  });
  afterEach(async () => {
    expect(await names(), "a refused request must leave nothing").toEqual(before);
    expect((await ask(target(), "/healthz", { token: null })).status).toBe(200);
  });

  describe("names", () => {
    test.each([
      ["empty", "", "name_invalid"],
      ["a space", " ", "name_invalid"],
      ["64 characters", "a".repeat(64), "name_invalid"],
      ["10,000 characters", "a".repeat(10_000), "name_invalid"],
      ["upper case", "Hello", "name_invalid"],
      ["a dot", ".", "name_invalid"],
      ["two dots", "..", "name_invalid"],
      ["a path upwards", "../../etc", "name_invalid"],
      ["a slash", "a/b", "name_invalid"],
      ["a backslash", "a\\b", "name_invalid"],
      ["an encoded slash", "a%2fb", "name_invalid"],
      ["a NUL", "a\0b", "name_invalid"],
      ["a line feed", "a\nb", "name_invalid"],
      ["an umlaut", "fuß", "name_invalid"],
      ["an emoji", "a😀", "name_invalid"],
      ["a Cyrillic letter", "hellо", "name_invalid"],
      ["a lone surrogate", "a\ud800", "name_invalid"],
      ["a hyphen in front", "-a", "name_invalid"],
      ["a hyphen at the end", "a-", "name_invalid"],
      ["an underscore", "a_b", "name_invalid"],
      ["an option", "--help", "name_invalid"],
      ["a shell trick", "$(reboot)", "name_invalid"],
    ])("%s is refused", async (_what, name, code) => {
      expect(refusal(await create({ name }))).toEqual([400, code]);
    });

    test("a missing name says so", async () => {
      expect(refusal(await create({}))).toEqual([400, "name_required"]);
    });

    test.each([[1], [null], [true], [["a"]], [{ a: 1 }]])("%j is not a name", async (name) => {
      const [status, code] = refusal(await create({ name }));
      expect(status).toBe(400);
      expect(["body_invalid", "name_required"]).toContain(code);
    });

    test("a taken name is 409, also when two ask at once", async () => {
      const name = uniqueName("twin");
      try {
        const answers = await Promise.all([create({ name }), create({ name }), create({ name })]);
        expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([201, 409, 409]);
        expect(refusal(await create({ name }))).toEqual([409, "sprite_name_taken"]);
      } finally {
        await ask(target(), `/v1/sprites/${name}`, { method: "DELETE" });
      }
    });

    test.each([
      "/v1/sprites/..%2F..%2Fetc",
      "/v1/sprites/%00",
      "/v1/sprites/%zz",
      "/v1/sprites/../../etc/passwd",
      "/v1/sprites//exec",
      "/v1/sprites/%ff%fe",
      "/v1//sprites",
    ])("the path %s names nothing", async (path) => {
      const answer = await ask(target(), path);
      expect(answer.status).toBe(404);
      refusal(answer);
    });
  });

  describe("sizes", () => {
    test.each([
      ["cpus", 100_000],
      ["ram_mb", 1_000_000_000],
      ["storage_gb", 1_000_000_000],
      ["cpus", Number.MAX_SAFE_INTEGER],
    ])("%s: %i is more than this host has, and the message says what it has", async (field, value) => {
      const answer = await create({ name: uniqueName("big"), config: { [field]: value } });
      const [status, code] = refusal(answer);
      expect(status).toBe(400);
      expect(["size_beyond_host", "storage_size"]).toContain(code);
      expect(answer.json()["message"]).toMatch(new RegExp(`${field}.*\\d`));
    });

    test.each([0, -1, 1.5, "2", null, [], 1e300])("cpus: %j is not a number of CPUs", async (cpus) => {
      const [status, code] = refusal(await create({ name: uniqueName("odd"), config: { cpus } }));
      expect(status).toBe(400);
      expect(["body_invalid", "size_beyond_host"]).toContain(code);
    });
  });

  describe("fields and types", () => {
    test.each([
      [{ colour: "red" }, "colour"],
      [{ config: { gpus: 1 } }, "gpus"],
      [{ url_settings: { open: true } }, "open"],
      [{ Name: "x" }, "Name"],
    ])("the unknown field in %j is named", async (extra, field) => {
      const answer = await create({ name: uniqueName("field"), ...extra });
      expect(refusal(answer)).toEqual([400, "field_unknown"]);
      expect(answer.json()["message"]).toContain(field);
    });

    test.each([
      [{ labels: "one" }],
      [{ labels: [1] }],
      [{ environment: { A: 1 } }],
      [{ environment: ["A=1"] }],
      [{ config: [] }],
      [{ config: "small" }],
      [{ url_settings: { auth: "none" } }],
      [{ wait_for_capacity: "yes" }],
      [{ runtime: "fast" }],
    ])("%j has a wrong type", async (extra) => {
      expect(refusal(await create({ name: uniqueName("type"), ...extra }))).toEqual([400, "body_invalid"]);
    });

    test.each([
      [{ labels: [""] }, "labels_invalid"],
      [{ labels: ["a\nb"] }, "labels_invalid"],
      [{ labels: ["x".repeat(10_000)] }, "labels_invalid"],
      [{ labels: Array.from({ length: 1_000 }, (_, index) => `l${index}`) }, "labels_invalid"],
      [{ environment: { "": "x" } }, "environment_invalid"],
      [{ environment: { "A=B": "x" } }, "environment_invalid"],
      [{ environment: { A: "x\0y" } }, "environment_invalid"],
      [{ environment: { A: "x".repeat(300_000) } }, "environment_invalid"],
      [{ environment: { A: "x".repeat(61_440) } }, "environment_invalid"],
    ])("rules of labels and environment: %.60j", async (extra, code) => {
      expect(refusal(await create({ name: uniqueName("rule"), ...extra }))).toEqual([400, code]);
    });

    test("an unknown image is named with what to do", async () => {
      const answer = await create({ name: uniqueName("image"), image: "no-such-image" });
      expect(refusal(answer)).toEqual([400, "image_unknown"]);
      expect(answer.json()["message"]).toContain("no-such-image");
    });

    test("__proto__ pollutes nothing", async () => {
      const answer = await ask(target(), "/v1/sprites", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: `{"name":"${uniqueName("proto")}","__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}`,
      });
      expect(answer.status).toBe(400);
      expect(({} as { polluted?: number }).polluted).toBeUndefined();
    });
  });

  describe("bodies", () => {
    const post = (body: string | Uint8Array, headers: Record<string, string> = {}): Promise<Answer> =>
      ask(target(), "/v1/sprites", { method: "POST", body, headers: { "content-type": "application/json", ...headers } });

    test.each([["{"], ["[]"], ["null"], ['"text"'], ["12"], ["\0\0\0"], ["{}{}"], ["[".repeat(50_000)]])(
      "%.20j is not a request",
      async (body) => {
        const [status, code] = refusal(await post(body));
        expect(status).toBe(400);
        expect(["body_invalid", "name_required"]).toContain(code);
      },
    );

    test("an empty body asks for a name", async () => {
      const [status, code] = refusal(await post(""));
      expect([400, ["body_invalid", "name_required"].includes(String(code))]).toEqual([status, true]);
    });

    test("bytes that are not UTF-8 are refused", async () => {
      expect((await post(Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]))).status).toBe(400);
    });

    test("more than the limit is 413 with the limit", async () => {
      const answer = await post(JSON.stringify({ name: "x", environment: { A: "x".repeat(API_LIMITS.bodyBytesMax) } }));
      expect(refusal(answer)).toEqual([413, "body_too_large"]);
      expect(answer.json()["limit"]).toBe(API_LIMITS.bodyBytesMax);
    });

    test("a length that only claims to be large is refused before it is read", async () => {
      const startedMs = performance.now();
      const response = await askStream(target(), "/v1/sprites", {
        method: "POST",
        headers: { "content-length": String(10 ** 12), "content-type": "application/json" },
      });
      expect(response.statusCode).toBe(413);
      response.destroy();
      expect(performance.now() - startedMs).toBeLessThan(5_000);
    });

    test("a chunked body without a length is held to the limit too", async () => {
      const answer = await post(`{"name":"${"x".repeat(2 * API_LIMITS.bodyBytesMax)}"}`, { "transfer-encoding": "chunked" });
      expect(refusal(answer)).toEqual([413, "body_too_large"]);
    });
  });

  describe("queries and paths", () => {
    test.each(["max_results=abc", "max_results=1.5", "max_results=99999999999999999999"])("%s is refused", async (query) => {
      expect(refusal(await ask(target(), `/v1/sprites?${query}`))).toEqual([400, "query_invalid"]);
    });

    test.each(["max_results=0", "max_results=-5", "max_results=1000000"])("%s is clamped", async (query) => {
      expect((await ask(target(), `/v1/sprites?${query}`)).status).toBe(200);
    });

    test("a continuation token that is garbage is no fault of the server", async () => {
      for (const token of ["garbage", "%00", "x".repeat(500), "eyJhIjoxfQ", "%F0%9F%98%80"]) {
        expect((await ask(target(), `/v1/sprites?continuation_token=${token}`)).status).toBeLessThan(500);
      }
    });

    test("an unknown path is 404, a wrong method 405 with Allow, what is not offered yet 501", async () => {
      expect(refusal(await ask(target(), "/v1/nothing"))).toEqual([404, "not_found"]);
      const wrong = await ask(target(), "/v1/sprites", { method: "DELETE" });
      expect(refusal(wrong)).toEqual([405, "method_not_allowed"]);
      expect(wrong.headers["allow"]).toContain("POST");
      expect(refusal(await ask(target(), "/v1/sprites/any/services"))).toEqual([501, "not_available_yet"]);
    });
  });
}
