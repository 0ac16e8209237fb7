/** `npm ci` of a project with real packages, and `pip install`, from registries that run inside the sprite. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { run } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DEVELOPER_IMAGE, developerSkipReason, WAYS, Workshop } from "./workshop.ts";

vi.setConfig({ testTimeout: 1_800_000, hookTimeout: 900_000 });

const INSTALLED = path.resolve(import.meta.dirname, "../../node_modules");
const REGISTRY_PORT = 4873;
const INDEX_PORT = 8099;

/** What the project asks for: packages that this repository itself uses. */
const WANTED = ["commander", "pino", "ws", "uuid", "execa", "smol-toml", "p-limit"];
const PROJECT_TEST = `
import { execa } from "execa"; import pLimit from "p-limit"; import pino from "pino"; import { parse } from "smol-toml";
const { stdout } = await pLimit(1)(() => execa("echo", ["n = 42"]));
pino({ base: null, timestamp: false }).info(parse(stdout));
`;

interface Manifest {
  version: string;
  dependencies?: Record<string, string>;
}

/** Everything the wanted packages need. */
async function closureOf(names: readonly string[]): Promise<Map<string, Manifest>> {
  const found = new Map<string, Manifest>();
  const queue = [...names];
  for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
    const file = path.join(INSTALLED, name, "package.json");
    if (found.has(name)) continue;
    if (!existsSync(file)) throw new Error(`${name} is not installed`);
    const manifest = JSON.parse(await fs.readFile(file, "utf8")) as Manifest;
    found.set(name, manifest);
    queue.push(...Object.keys(manifest.dependencies ?? {}));
  }
  return found;
}

/** Writes tarballs and a project whose lock file names them. */
async function makeProject(directory: string): Promise<number> {
  const tarballs = path.join(directory, "registry");
  const project = path.join(directory, "project");
  await fs.mkdir(tarballs, { recursive: true });
  await fs.mkdir(project);
  const packages = await closureOf(WANTED);
  const folders = [...packages.keys()].map((name) => path.join(INSTALLED, name));
  const packed = await run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", tarballs, ...folders], {
    cwd: directory,
    timeoutMs: 180_000,
  });
  const files = new Map((JSON.parse(packed.stdout) as { name: string; filename: string }[]).map((one) => [one.name, one.filename]));
  const root = { name: "project", version: "1.0.0", type: "module", dependencies: {} as Record<string, string> };
  for (const name of WANTED) root.dependencies[name] = packages.get(name)?.version ?? "";
  const entries: Record<string, unknown> = { "": root };
  for (const [name, { version, dependencies }] of packages) {
    const file = files.get(name)?.replace(/^@/, "").replaceAll("/", "-") ?? "";
    const hash = createHash("sha512").update(await fs.readFile(path.join(tarballs, file)));
    const resolved = `http://127.0.0.1:${REGISTRY_PORT}/${file}`;
    entries[`node_modules/${name}`] = {
      version,
      resolved,
      integrity: `sha512-${hash.digest("base64")}`,
      ...(dependencies ? { dependencies } : {}),
    };
  }
  const lock = { name: root.name, version: root.version, lockfileVersion: 3, requires: true, packages: entries };
  await fs.writeFile(path.join(project, "package.json"), JSON.stringify(root, null, 2));
  await fs.writeFile(path.join(project, "package-lock.json"), JSON.stringify(lock, null, 2));
  await fs.writeFile(
    path.join(project, ".npmrc"),
    `registry=http://127.0.0.1:${REGISTRY_PORT}/\naudit=false\nfund=false\nupdate-notifier=false\n`,
  );
  await fs.writeFile(path.join(project, "test.js"), PROJECT_TEST);
  return packages.size;
}

/** Writes two wheels, of which one needs the other, and the index of a package registry (PEP 503). */
const WHEELS = `
import base64, hashlib, os, zipfile
def wheel(name, modules, needs):
    os.makedirs(f"index/simple/{name}", exist_ok=True)
    info, files = f"{name}-1.0.dist-info", {f"{name}/{key}.py": text for key, text in modules.items()}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n" + "".join(f"Requires-Dist: {one}\\n" for one in needs)
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    digest = lambda text: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    files[f"{info}/RECORD"] = "".join(f"{key},sha256={digest(text)},{len(text)}\\n" for key, text in files.items()) + f"{info}/RECORD,,\\n"
    file = f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"index/simple/{name}/{file}", "w") as archive:
        for key, text in files.items(): archive.writestr(key, text)
    with open(f"index/simple/{name}/index.html", "w") as page: page.write(f'<a href="{file}">{file}</a>')
wheel("lower", {"__init__": "", **{f"m{n}": f"value = {n}\\n" for n in range(200)}}, [])
wheel("upper", {"__init__": "from importlib import import_module\\ntotal = sum(import_module(f'lower.m{n}').value for n in range(200))\\n"}, ["lower>=1.0"])
`;

describe.skipIf(developerSkipReason() !== undefined)("package managers", () => {
  let shop: Workshop;
  let packages = 0;

  beforeAll(async () => {
    const local = await fs.mkdtemp(path.join(os.tmpdir(), "realwork-packages-"));
    try {
      packages = await makeProject(local);
      await fs.writeFile(path.join(local, "wheels.py"), WHEELS);
      shop = await Workshop.open(DEVELOPER_IMAGE);
      await shop.push("cut", local, "/home/sprite");
      await shop.serve(`exec python3 -m http.server -b 127.0.0.1 -d registry ${REGISTRY_PORT}`, REGISTRY_PORT);
      await shop.work("straight", "python3 wheels.py");
      await shop.serve(`exec python3 -m http.server -b 127.0.0.1 -d index ${INDEX_PORT}`, INDEX_PORT);
    } finally {
      await fs.rm(local, { recursive: true, force: true });
    }
  });
  afterAll(() => shop?.[Symbol.asyncDispose]());

  test.each(WAYS)("npm ci, %s", async (way) => {
    const script = `cd project && rm -rf node_modules ~/.npm && npm ci --loglevel=error && ls node_modules | grep -v '^@' | wc -l && node test.js`;
    const out = await shop.work(way, script);
    expect(out).toContain(`added ${packages} packages in `);
    expect(out.split("\n").slice(-2).join("\n")).toBe('{"level":30,"n":42}\n');
  });

  test("npm ci as a job", async () => {
    const { code, out } = await shop.job("cut", `cd project && rm -rf node_modules ~/.npm && npm ci --loglevel=error && node test.js`);
    expect([code, out.split("\n").slice(-2).join("\n")]).toEqual([0, '{"level":30,"n":42}\n']);
  });

  test.each(WAYS)("pip install, %s", async (way) => {
    const pip = `rm -rf target && pip install -q --no-cache-dir --disable-pip-version-check --index-url http://127.0.0.1:${INDEX_PORT}/simple/ --target target upper`;
    expect(await shop.work(way, `${pip} && PYTHONPATH=target python3 -c 'import upper; print(upper.total)'`)).toBe("19900\n");
  });
});
