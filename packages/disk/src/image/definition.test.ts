import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { DiskError } from "../errors.ts";
import { aptPackages, parseDefinition, readDefinition } from "./definition.ts";

const IMAGES = path.resolve(import.meta.dirname, "../../../../images");
const small = 'name = "own"\nsuite = "trixie"\n';

const complaint = (text: string): string => {
  try {
    parseDefinition(text, "own.toml");
  } catch (error) {
    expect(error).toBeInstanceOf(DiskError);
    expect(error).toMatchObject({ code: "disk_image_invalid" });
    return (error as DiskError).message;
  }
  return "accepted";
};

describe("shipped definitions", () => {
  it("[IMG-2] default brings what the product promises", async () => {
    const definition = await readDefinition(path.join(IMAGES, "default.toml"));
    const promised = ["git", "python3", "python3-pip", "python3-venv", "golang-go", "rustc", "cargo", "default-jdk-headless"];
    promised.push(
      "postgresql",
      "postgresql-client",
      "build-essential",
      "ripgrep",
      "jq",
      "tmux",
      "curl",
      "sqlite3",
      "openssh-client",
      "vim",
    );
    expect(aptPackages(definition)).toEqual(expect.arrayContaining(promised));
    expect(definition.npm).toMatchObject({ node: "24", packages: expect.arrayContaining(["@anthropic-ai/claude-code"]) as unknown });
    expect(definition.user).toMatchObject({ name: "sprite", uid: 1001, home: "/home/sprite", sudo: true });
    expect(definition.files.find((file) => file.path.endsWith("createcluster.conf"))).toMatchObject({ early: true });
  });

  it("[IMG-2] minimal stays small", async () => {
    const definition = await readDefinition(path.join(IMAGES, "minimal.toml"));
    expect(aptPackages(definition).length).toBeLessThan(10);
    expect(definition.npm).toBeUndefined();
  });
});

describe("parseDefinition", () => {
  it("[IMG-1] fills what is left out", () => {
    expect(parseDefinition(small, "own.toml")).toMatchObject({
      user: { name: "sprite", uid: 1001, home: "/home/sprite", shell: "/bin/bash", sudo: true },
      apt: { docs: false, packages: {} },
      files: [],
      run: [],
      env: {},
    });
  });

  it.each([
    ["name", 'name = "No"\nsuite = "trixie"\n'],
    ["suite", 'name = "own"\n'],
    ["suite", 'name = "own"\nsuite = "../sid"\n'],
    ["mirror", `${small}mirror = "file:///etc"\n`],
    ["apt.packages.tools.1", `${small}[apt.packages]\ntools = ["vim", "--option"]\n`],
    ["npm.packages.0", `${small}[npm]\nnode = "24"\npackages = ["../x"]\n`],
    ["npm.node", `${small}[npm]\nnode = "lts"\n`],
    ["user.uid", `${small}[user]\nname = "me"\nuid = 0\nhome = "/home/me"\n`],
    ["user.home", `${small}[user]\nname = "me"\nuid = 1001\nhome = "/home/../root"\n`],
    ["files.0.path", `${small}[[files]]\npath = "etc/x"\ncontent = ""\n`],
    ["files.0.mode", `${small}[[files]]\npath = "/etc/x"\ncontent = ""\nmode = "rw"\n`],
    ["env.A B", `${small}[env]\n"A B" = "x"\n`],
    ["env.PATH", `${small}[env]\nPATH = "a\\nb"\n`],
    ["packages: there is no such field", `${small}packages = []\n`],
    ["apt.package: there is no such field", `${small}[apt]\npackage = ["vim"]\n`],
  ])("[IMG-1] names the wrong field: %s", (field, text) => {
    expect(complaint(text)).toContain(field);
  });

  it("[IMG-1] names every wrong field at once, and the file", () => {
    const message = complaint('name = "own"\nsuite = "trixie"\nrum = []\n[user]\nname = "me"\nuid = 5\nhome = "/home/me"\n');
    expect(message).toContain("own.toml");
    expect(message).toContain("rum");
    expect(message).toContain("user.uid");
  });

  it("[IMG-1] says in which line TOML ends to be TOML", () => {
    expect(complaint('name = "own"\nsuite = \n')).toMatch(/not valid TOML in line 2/);
  });
});

describe("readDefinition", () => {
  it("[IMG-1] says that a file cannot be read", async () => {
    await expect(readDefinition(path.join(os.tmpdir(), "there-is-no-such.toml"))).rejects.toMatchObject({ code: "disk_image_invalid" });
    const directory = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-def-"));
    await expect(readDefinition(directory)).rejects.toMatchObject({ code: "disk_image_invalid" });
    await fs.rm(directory, { recursive: true });
  });
});
