import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseDefinition } from "./definition.ts";
import { bootstrapArgs, earlyFiles, overlayFiles, shellQuote, userScript } from "./recipe.ts";

const definition = parseDefinition(
  `name = "own"
suite = "trixie"
run = ["echo 'it''s'", "true"]
[env]
PATH = "/a:/b"
GREETING = "it's $HOME"
[apt.packages]
one = ["vim", "git"]
two = ["git"]
[npm]
node = "24"
[[files]]
path = "/etc/early.conf"
content = "x"
early = true
[[files]]
path = "/home/sprite/.vimrc"
content = "set nocp"
owner = "user"
mode = "0600"
`,
  "own.toml",
);
const content = (path: string): string => overlayFiles(definition).find((file) => file.path === path)?.content ?? "";
const args = bootstrapArgs(definition, {
  isRoot: true,
  paths: { target: "/t/tree", earlyTar: "/t/early.tar", overlayTar: "/t/overlay.tar", npmTar: "/t/npm.tar" },
  sources: [{ uri: "http://mirror.example/debian", suite: "trixie" }],
  aptSettings: { "Acquire::http::Proxy": "http://proxy.example:3128" },
});

describe("overlayFiles", () => {
  it("[IMG-5] configures user, sudo, identity, names and sources", () => {
    expect(content("/etc/sudoers.d/sprite")).toBe("sprite ALL=(ALL:ALL) NOPASSWD:ALL\n");
    expect(overlayFiles(definition).find((file) => file.path === "/etc/sudoers.d/sprite")?.mode).toBe(0o440);
    expect(content("/etc/machine-id")).toBe("");
    expect(content("/etc/resolv.conf")).toBe("nameserver 10.117.0.1\n");
    expect(content("/etc/hosts")).toContain("127.0.0.1\tlocalhost");
    expect(content("/etc/apt/sources.list.d/debian.sources")).toContain(
      "URIs: http://deb.debian.org/debian\nSuites: trixie trixie-updates",
    );
    expect(content("/etc/environment")).toContain('PATH="/a:/b"\n');
  });

  it("keeps early files apart and permissions as written", () => {
    expect(earlyFiles(definition).map((file) => file.path)).toEqual(["/etc/early.conf"]);
    expect(overlayFiles(definition).find((file) => file.path === "/home/sprite/.vimrc")?.mode).toBe(0o600);
  });

  it("[IMG-10] runs npm's install scripts inside the image, then the user's commands in order, then cleans", () => {
    const script = content("/var/tmp/sprited-build/configure.sh");
    const places = [
      "npm rebuild --global --offline",
      "run-1.sh",
      "run-2.sh",
      "chown -R 1001:1001 /home/sprite",
      "rm -rf /var/tmp/sprited-build",
    ].map((part) => script.indexOf(part));
    expect(places).toEqual([...places].sort((a, b) => a - b));
    expect(places[0]).toBeGreaterThan(0);
    execFileSync("sh", ["-n"], { input: script });
  });

  it("[IMG-5] leaves sudo out when the definition does", () => {
    const plain = { ...definition, user: { ...definition.user, sudo: false } };
    expect(overlayFiles(plain).some((file) => file.path.includes("sudoers"))).toBe(false);
  });

  it("exports values for a login shell unchanged", () => {
    const out = execFileSync("sh", ["-c", `${content("/etc/profile.d/sprited.sh")}\nprintf %s "$GREETING"`], { encoding: "utf8" });
    expect(out).toBe("it's $HOME");
  });
});

describe("bootstrapArgs", () => {
  it("asks for each package once, and for sudo", () => {
    expect(args).toContain("--include=git,vim,sudo");
  });

  it("[IMG-13] checks against Debian's keys and keeps the host's proxy", () => {
    expect(args).toContain("--keyring=/usr/share/keyrings/debian-archive-keyring.gpg");
    expect(args).toContain('--aptopt=Acquire::http::Proxy "http://proxy.example:3128"');
    expect(args.slice(-3)).toEqual(["trixie", "/t/tree", "deb http://mirror.example/debian trixie main"]);
  });

  it("runs early files, user, npm, overlay and configuration in this order", () => {
    const hooks = args.filter((one) => /^--(essential|customize)-hook=/.test(one) && !one.includes("mkdir"));
    expect(hooks.map((one) => /early|useradd|npm|overlay|configure/.exec(one)?.[0])).toEqual([
      "early",
      "useradd",
      "npm",
      "overlay",
      "configure",
    ]);
  });
});

describe("shellQuote", () => {
  it("makes one word of anything", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.string({ minLength: 0, maxLength: 12 }).filter((word) => !word.includes("\0")),
          { minLength: 1, maxLength: 5 },
        ),
        (words) => {
          const out = execFileSync("sh", ["-c", `printf '%s\\0' ${words.map(shellQuote).join(" ")}`], { encoding: "utf8" });
          expect(out).toBe(words.map((word) => `${word}\0`).join(""));
        },
      ),
      { numRuns: 30 },
    );
  });

  it("keeps a user's home from becoming a command", () => {
    expect(userScript({ ...definition.user, home: "/home/a b;reboot" })).toContain("--home-dir '/home/a b;reboot'");
  });
});
