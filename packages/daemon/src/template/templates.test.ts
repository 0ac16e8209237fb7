/** Templates over real files and the real store: what is durable, what a crash leaves, what cannot be resumed. */
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { silentLogger } from "@sprited/base";
import type { DiskPool } from "@sprited/disk";
import { ApiError } from "@sprited/protocol/errors";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CheckpointFiles, type CheckpointMeta, type StateFiles } from "../checkpoint/index.ts";
import type { CreateOptions, CreateSprite, SpriteView } from "../sprite/index.ts";
import { type Database, insertOrganization, openDatabase, templateRecords } from "../store/index.ts";
import { Templates, type TemplateVersion } from "./index.ts";

const ORGANIZATION = "o1";
const REQUEST = {
  organizationId: ORGANIZATION,
  name: "web",
  spriteName: "base",
  checkpointId: "v1",
  memory: false,
  description: "",
  environment: {},
  labels: [],
};
const MEMORY_RECORD = {
  build: "qemu-1",
  shape: { cpus: 1, memoryMib: 256 },
  storageGb: 1,
  network: true,
  system: "s1",
  generation: 1,
  agentVersion: "1",
  ramOffset: 0,
  savedAtMs: 0,
};

describe("templates", () => {
  let root: string;
  let database: Database;
  let created: { request: CreateSprite; options: CreateOptions | undefined }[];
  let build: string;

  beforeEach(async () => {
    root = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-templates-"));
    database = openDatabase(":memory:");
    insertOrganization(database, { id: ORGANIZATION, slug: "local", name: "local", createdAtMs: 0 });
    created = [];
    build = "qemu-1";
    for (const name of ["disk.raw", "ram", "state"]) await fs.writeFile(path.join(root, name), `content of ${name}`);
  });
  afterEach(async () => await fs.rm(root, { recursive: true, force: true }));

  const copyingPool = (fault?: () => void): DiskPool =>
    ({
      clone: async (source: string, target: string) => {
        fault?.();
        await fs.copyFile(source, target);
      },
    }) as unknown as DiskPool;

  function open(options: { memory?: boolean; fault?: () => void } = {}): Templates {
    const directory = path.join(root, "templates");
    const files: StateFiles = {
      diskPath: path.join(root, "disk.raw"),
      memory: options.memory ? { ramPath: path.join(root, "ram"), statePath: path.join(root, "state"), record: MEMORY_RECORD } : undefined,
    };
    const meta = {
      config: { cpus: 1, memoryMib: 256, storageGb: 1 },
      image: { name: "minimal", digest: "d".repeat(64) },
    } as unknown as CheckpointMeta;
    return new Templates({
      records: templateRecords<TemplateVersion>(database),
      source: { checkpoint: async () => ({ id: "v1", meta, files }) },
      sprites: {
        create: async (request, call) => {
          created.push({ request, options: call });
          return { name: request.name } as SpriteView;
        },
      },
      files: new CheckpointFiles({ pool: copyingPool(options.fault), root: directory }),
      canResume: (one) => one === build,
      organizationSlug: () => "local",
      poolsOf: () => [],
      changed: () => {},
      logger: silentLogger,
      nowMs: Date.now,
    });
  }

  const make = (name: string): CreateSprite => ({
    organizationId: ORGANIZATION,
    name,
    config: {},
    environment: {},
    labels: [],
    urlSettings: {},
    imageName: undefined,
  });

  test("[TPL-3] a template that was acknowledged is there after a restart, byte for byte", async () => {
    await open().create(REQUEST);
    const again = open();
    await again.recover();
    await again.createSprite("web", make("one"));
    const origin = created[0]?.options?.origin;
    expect(await fs.readFile(origin?.diskPath ?? "", "utf8")).toBe("content of disk.raw");
  });

  test("[TPL-3] a create that fails half-way leaves nothing, and files without a record go at the next start", async () => {
    const failing = open({
      fault: () => {
        throw new Error("no space");
      },
    });
    await expect(failing.create(REQUEST)).rejects.toThrow("no space");
    expect(failing.list(ORGANIZATION)).toEqual([]);
    const stray = path.join(root, "templates", "0198-stray");
    await fs.mkdir(stray, { recursive: true });
    const again = open();
    await again.recover();
    expect(await fs.readdir(path.join(root, "templates"))).toEqual([]);
    expect(() => again.get(ORGANIZATION, "web")).toThrow(expect.objectContaining({ code: "template_not_found" }));
  });

  test("[TPL-5] memory that the checkpoint does not have is refused, and sizes of a memory cannot be chosen", async () => {
    await expect(open().create({ ...REQUEST, memory: true })).rejects.toMatchObject({ code: "template_memory_missing" });
    const templates = open({ memory: true });
    await templates.create({ ...REQUEST, memory: true });
    await expect(templates.createSprite("web", { ...make("big"), config: { memoryMib: 512 } })).rejects.toSatisfy(
      (error) => ApiError.is(error) && error.code === "template_size_fixed" && error.details.field === "ram_mb",
    );
    await templates.createSprite("web", make("one"));
    expect(created[0]?.options?.origin?.memory?.record).toMatchObject({ build: "qemu-1" });
  });

  test("[TPL-10] a memory of another build of the VMM is said to be unusable, and sprites begin cold from the same disk", async () => {
    const templates = open({ memory: true });
    const { current } = await templates.create({ ...REQUEST, memory: true });
    expect(templates.memoryState(current)).toBe("usable");
    build = "qemu-2";
    expect(templates.memoryState(current)).toBe("unusable");
    await templates.createSprite("web", { ...make("one"), config: { memoryMib: 512 } });
    expect(created[0]?.options?.origin).toMatchObject({ memory: undefined, diskPath: expect.stringContaining("disk.raw") });
    expect(created[0]?.request.config).toMatchObject({ memoryMib: 512 });
  });

  test("[TPL-9] delete removes the files of every version", async () => {
    const templates = open();
    await templates.create(REQUEST);
    await templates.create(REQUEST);
    expect(await fs.readdir(path.join(root, "templates"))).toHaveLength(2);
    await templates.delete(ORGANIZATION, "web", { force: false });
    expect(await fs.readdir(path.join(root, "templates"))).toEqual([]);
  });

  test("damaged files are a typed error, not a sprite", async () => {
    const templates = open();
    const { current } = await templates.create(REQUEST);
    await fs.truncate(path.join(root, "templates", current.id, "state", "disk.raw"), 3);
    await expect(templates.createSprite("web", make("one"))).rejects.toMatchObject({ code: "disk_damaged" });
    expect(created).toEqual([]);
  });
});
