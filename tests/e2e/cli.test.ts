/** The `sprite` command as a process, against a small API: accounts, sprites, output, exit codes. */
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { waitFor } from "@sprited/base";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CliApi, TOKEN } from "./cli-api.ts";
import { CliHome, collect } from "./cli-run.ts";

let api: CliApi;
let home: CliHome;

beforeEach(async () => {
  api = await CliApi.start();
  home = await CliHome.make({ SPRITES_API_URL: api.url, SPRITE_TOKEN: TOKEN });
});

afterEach(async () => {
  await api.kill();
  await home.remove();
});

describe("command line", () => {
  test("[CLI-10] --version prints the version alone", async () => {
    const result = await home.run(["--version"]);
    expect(result.out).toMatch(/^sprite \d+\.\d+\.\d+\n$/);
    expect(result.code).toBe(0);
  });

  test("[CLI-10] without a command the overview names every command and fits 80 columns", async () => {
    const result = await home.run([]);
    expect(result.code).toBe(0);
    for (const name of [
      "create",
      "list",
      "use",
      "info",
      "destroy",
      "url",
      "config",
      "exec",
      "console",
      "attach",
      "api",
      "login",
      "logout",
      "org",
      "auth",
    ]) {
      expect(result.out).toMatch(new RegExp(`^  ${name}\\b`, "m"));
    }
    expect(Math.max(...result.out.split("\n").map((line) => line.length))).toBeLessThanOrEqual(80);
  });

  test.each([
    "create",
    "list",
    "use",
    "info",
    "destroy",
    "url",
    "url update",
    "config update",
    "exec",
    "console",
    "attach",
    "api",
    "login",
    "logout",
    "org",
    "org auth",
    "org list",
    "org logout",
    "auth setup",
  ])("[CLI-10] help of %s has a usage line and fits 80 columns", async (command) => {
    const result = await home.run([...command.split(" "), "--help"]);
    expect(result.code).toBe(0);
    expect(result.out).toContain(`Usage: sprite ${command}`);
    expect(Math.max(...result.out.split("\n").map((line) => line.length))).toBeLessThanOrEqual(80);
  });

  test("[CLI-9] an unknown command ends with 2 and names the nearest one", async () => {
    const result = await home.run(["lst"]);
    expect(result.code).toBe(2);
    expect(result.err).toBe('error: There is no command "lst".\nDid you mean `sprite list`?\n');
  });

  test.each([
    [["list", "--nope"]],
    [["exec"]],
    [["--nope"]],
    [["create", "a", "--cpus", "0"]],
    [["exec", "--tty", "--http-post", "-s", "a", "true"]],
  ])("[CLI-9] wrong usage ends with 2: %j", async (args) => {
    const result = await home.run(args);
    expect(result.code).toBe(2);
    expect(result.err.trimEnd().split("\n")).toHaveLength(2);
  });

  test("[CLI-8] with --json an error is one JSON object on standard error", async () => {
    const result = await home.run(["info", "-s", "ghost", "--json"]);
    expect(result.code).toBe(1);
    expect(result.out).toBe("");
    expect(JSON.parse(result.err)).toMatchObject({ error: "sprite_not_found", hint: expect.stringContaining("sprite list") as string });
  });

  test("[CLI-8] a server that is not there is named, with what to do", async () => {
    await api.kill();
    const result = await home.run(["list"]);
    expect(result.code).toBe(1);
    expect(result.err).toBe(
      `error: Cannot reach ${api.url}: nothing listens there.\nStart the server with \`npx sprited serve\`, or choose another with SPRITES_API_URL.\n`,
    );
    const exec = await home.run(["exec", "-s", "a", "true"]);
    expect(exec.err).toBe(result.err);
  });

  test("[CLI-11] texts of the server reach the terminal without control characters", async () => {
    api.add("plain", { labels: ["\u001b]0;title\u0007\u009b31m"] });
    const result = await home.run(["list"]);
    expect(result.out).toContain("?]0;title??31m");
    // oxlint-disable-next-line no-control-regex -- that is what must not be there
    expect(result.out).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  });
});

describe("accounts", () => {
  test("[CLI-7] login checks the token and stores it in private files of the known format", async () => {
    const alone = { SPRITE_TOKEN: "" };
    const result = await home.run(["login"], { env: alone, input: `${TOKEN}\n` });
    expect(result).toMatchObject({ code: 0, out: `logged in to ${api.url} as organization default\n` });
    const file = path.join(home.dir, ".sprites/sprites.json");
    expect(JSON.parse(await readFile(file, "utf8"))).toMatchObject({
      version: "1",
      current_selection: { url: api.url, org: "default" },
      urls: { [api.url]: { orgs: { default: { name: "default", use_keyring: false } } } },
    });
    expect(await readFile(file, "utf8")).not.toContain("s3cret");
    for (const name of ["sprites.json", "tokens.json"])
      expect((await stat(path.join(home.dir, ".sprites", name))).mode & 0o777).toBe(0o600);
    const list = await home.run(["org", "list"], { env: alone });
    expect(list.out).toMatch(/\* +default +http:\/\/127\.0\.0\.1:\d+ +stored by login/);
    expect(list.out).not.toContain("s3cret");
    expect((await home.run(["list"], { env: { ...alone, SPRITES_API_URL: "" } })).code).toBe(0);
  });

  test("[CLI-7] a token that the server refuses is not stored", async () => {
    const result = await home.run(["auth", "setup", "--token", "wrong"], { env: { SPRITE_TOKEN: "" } });
    expect(result.code).toBe(1);
    expect(result.err).toMatch(/does not accept this token/);
    await expect(stat(path.join(home.dir, ".sprites"))).rejects.toThrow();
  });

  test("[CLI-7] a token of another organization than -o names is not stored", async () => {
    const result = await home.run(["org", "auth", "-o", "team"], { input: TOKEN, env: { SPRITE_TOKEN: "" } });
    expect(result.code).toBe(1);
    expect(result.err).toContain("belongs to organization default, not to team");
  });

  test("[CLI-3] without a login the token of this machine's server is used, and org list says so", async () => {
    const server = path.join(home.dir, "server");
    await mkdir(server);
    await writeFile(path.join(server, "token"), `${TOKEN}\n`, { mode: 0o600 });
    const env = { SPRITE_TOKEN: "", SPRITED_HOME: server };
    expect((await home.run(["list"], { env })).code).toBe(0);
    const rows = JSON.parse((await home.run(["org", "list", "--json"], { env })).out) as unknown[];
    expect(rows).toEqual([{ organization: null, api_url: api.url, token_from: path.join(server, "token"), in_use: true }]);
    const elsewhere = await home.run(["list"], { env: { ...env, SPRITES_API_URL: "http://sprites.invalid" } });
    expect(elsewhere.err).toContain("There is no token for http://sprites.invalid");
  });

  test("[CLI-4] a named organization that the token does not belong to stops the command", async () => {
    api.add("precious");
    const result = await home.run(["destroy", "precious", "--force", "-o", "team"]);
    expect(result.code).toBe(1);
    expect(result.err).toContain("belongs to organization default, not to team");
    expect(api.sprites.has("precious")).toBe(true);
  });

  test("[CLI-6] logout removes the settings and keeps nothing", async () => {
    await home.run(["login"], { env: { SPRITE_TOKEN: "" }, input: TOKEN });
    expect((await home.run(["org", "logout"], { env: { SPRITE_TOKEN: "" } })).err).toContain("Add --force.");
    expect((await home.run(["logout"])).code).toBe(0);
    const result = await home.run(["list"], { env: { SPRITE_TOKEN: "" } });
    expect(result.err).toContain(`Run \`sprite login ${api.url}\``);
  });
});

describe("sprites", () => {
  test("[CLI-12] list is an aligned table over all pages; --json gives the objects", async () => {
    for (const name of ["alpha", "b", "ci-1", "ci-2", "ci-30"]) api.add(name);
    api.add("b", { status: "running", labels: ["web", "prod"] });
    const lines = (await home.run(["list"])).out.trimEnd().split("\n");
    expect(lines).toHaveLength(6);
    expect(lines[0]).toMatch(/^NAME {3}STATUS {3}AGE +LABELS {4}URL$/);
    expect(new Set(lines.map((line) => line.search(/STATUS|cold|running/))).size).toBe(1);
    const json = JSON.parse((await home.run(["ls", "--json", "--prefix", "ci-"])).out) as { name: string }[];
    expect(json.map((sprite) => sprite.name)).toEqual(["ci-1", "ci-2", "ci-30"]);
  });

  test("[CLI-13] list --watch shows each change and goes on until it is interrupted", async () => {
    api.add("one");
    const child = home.start(["list", "-w"]);
    let seen = "";
    child.stdout?.on("data", (data: Buffer) => (seen += data.toString()));
    const ended = collect(child);
    await waitFor("the first line", { timeoutMs: 10_000 }, () => api.watchers === 1 && seen.includes("one cold"));
    api.announce({ type: "heartbeat", timestamp: "2026-01-01T00:00:00Z" });
    api.announce({ type: "sprite", name: "one", status: "running" });
    api.announce({ type: "deleted", name: "one" });
    await waitFor("the last change", { timeoutMs: 10_000 }, () => seen.includes("destroyed"));
    child.kill("SIGINT");
    await ended;
    expect(
      seen
        .trim()
        .split("\n")
        .map((line) => line.replace(/^\S+ /, "")),
    ).toEqual(["one cold", "one running", "one destroyed"]);
  });

  test("[CLI-14] create sends what was asked for, wakes the sprite, and prints the times", async () => {
    const result = await home.run([
      "create",
      "dev",
      "--label",
      "a",
      "--label",
      "b",
      "--cpus",
      "2",
      "--ram-mb",
      "4096",
      "--storage-gb",
      "20",
      "--image",
      "minimal",
      "--skip-console",
    ]);
    expect(result.code).toBe(0);
    expect(result.out).toMatch(/^created dev in \d+\.\d+ s; ready after \d+\.\d+ s\n$/);
    expect(api.sprites.get("dev")?.body).toEqual({
      name: "dev",
      labels: ["a", "b"],
      image: "minimal",
      config: { cpus: 2, ram_mb: 4096, storage_gb: 20 },
    });
    expect(api.requests.at(-1)).toMatchObject({ method: "UPGRADE", url: expect.stringContaining("cmd=true") as string });
  });

  test("[CLI-14] create without a name makes one; a taken name is refused", async () => {
    const result = await home.run(["create", "--json"]);
    const { name } = JSON.parse(result.out) as { name: string };
    expect(name).toMatch(/^[a-z]+-[a-z]+-\d{3}$/);
    const again = await home.run(["create", name]);
    expect(again.code).toBe(1);
    expect(again.err).toContain("is taken");
  });

  test("[CLI-14] a sprite that was made but does not start is named with what to do", async () => {
    api.refusals = [{ status: 500, body: '{"error":"disk_damaged","message":"the disk is damaged"}' }];
    const result = await home.run(["create", "dev"]);
    expect(result.code).toBe(1);
    expect(result.err).toBe(
      "error: dev was created but did not start: the disk is damaged\nTry `sprite console -s dev`, or `sprite destroy dev`.\n",
    );
  });

  test("[CLI-5][CLI-16] use writes .sprite, which commands of the directory follow", async () => {
    api.add("dev", { status: "warm" });
    const dir = path.join(home.dir, "project");
    await mkdir(dir);
    expect((await home.run(["use", "ghost"], { cwd: dir })).code).toBe(1);
    expect((await home.run(["use", "dev"], { cwd: dir })).code).toBe(0);
    expect(JSON.parse(await readFile(path.join(dir, ".sprite"), "utf8"))).toEqual({ organization: "default", sprite: "dev" });
    expect((await home.run(["use"], { cwd: dir })).out).toBe("dev\n");
    expect((await home.run(["info"], { cwd: dir })).out).toMatch(/^status +warm$/m);
    api.sprites.delete("dev");
    for (const args of [["info"], ["exec", "true"], ["exec", "--tty", "true"]]) {
      expect((await home.run(args, { cwd: dir })).err).toContain("the file .sprite here names");
    }
    expect((await home.run(["use", "--unset"], { cwd: dir })).code).toBe(0);
    expect((await home.run(["info"], { cwd: dir })).err).toContain("No sprite was named.");
  });

  test("[CLI-15] destroy refuses without a terminal unless forced", async () => {
    api.add("dev");
    const refused = await home.run(["destroy", "dev"], { input: "y\n" });
    expect(refused).toMatchObject({ code: 1, err: "error: Will not destroy dev without being asked on a terminal.\nAdd --force.\n" });
    expect(api.sprites.has("dev")).toBe(true);
    expect(await home.run(["destroy", "dev", "--force"])).toMatchObject({ code: 0, out: "destroyed dev\n" });
    expect(api.sprites.size).toBe(0);
  });

  test("[CLI-18] url shows and changes who may open the URL", async () => {
    api.add("dev");
    expect((await home.run(["url", "-s", "dev"])).out).toBe("http://dev.sprites.test\nsprite: only with a token\n");
    expect((await home.run(["-s", "dev", "url", "update", "-a", "public"])).out).toBe("dev: public: anyone\n");
    expect((await home.run(["config", "update", "-s", "dev", "--url-auth", "default"])).out).toBe("dev: sprite: only with a token\n");
  });

  test("[CLI-17] api calls with curl; the token is in no argument list and input stays free", async () => {
    api.add("dev");
    const result = await home.run(["api", "/v1/sprites", "--", "-X", "POST", "-d", "@-", "-H", "content-type: application/json"], {
      input: '{"name":"made"}',
    });
    expect(result.code).toBe(0);
    expect(api.sprites.has("made")).toBe(true);
    expect((await home.run(["api", "-s", "dev", "/"])).out).toContain('"name":"dev"');
    expect((await home.run(["api", "https://example.com/v1"])).err).toContain("must not go to another server");
    const listed = await home.run(["api", "/v1/sprites", "--", "-w", "%{http_code}", "--next", "file:///proc/self/cmdline"]);
    expect(listed.out).toContain("file:///proc/self/cmdline");
    expect(listed.out).not.toContain("s3cret");
  });
});
