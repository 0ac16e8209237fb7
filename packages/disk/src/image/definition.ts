/**
 * Image definitions: what a user writes, in TOML, to say what an image holds. Read strictly: an
 * unknown field is a mistake, and every complaint names the field.
 */
import fs from "node:fs/promises";
import { parse, TomlError } from "smol-toml";
import { z } from "zod";
import { systemErrorCode } from "../clone/fs-error.ts";
import { DiskError } from "../errors.ts";

/** Longest definition that is read, bytes. */
const DEFINITION_BYTES_MAX = 1024 * 1024;

const absolutePath = z
  .string()
  .max(1024)
  .regex(/^\/[^\0\n]+$/, "must be an absolute path")
  .refine((value) => !value.split("/").includes(".."), "must not contain `..`");

const debianPackage = z.string().regex(/^[a-z0-9][a-z0-9+.-]{1,100}(=[A-Za-z0-9.+:~-]+)?$/, "is not a Debian package name");

const npmPackage = z
  .string()
  .regex(/^(@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*(@[A-Za-z0-9.^~<>=*_-]+)?$/, "is not an npm package name")
  .max(200);

const mirrorUrl = z.string().regex(/^https?:\/\/[^\s"'<>]+$/, "must be an http or https address");

export const imageName = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, "must be 1 to 63 lower-case letters, digits and dashes");

export const imageDefinition = z.strictObject({
  /** Name that sprites refer to. */
  name: imageName,
  /** One line for people. */
  description: z.string().max(200).default(""),
  /** Debian release. */
  suite: z.string().regex(/^[a-z]{1,30}$/, "must be the name of a Debian release, as `trixie`"),
  /** Debian mirror to build from; the setting's when left out. */
  mirror: mirrorUrl.optional(),
  /** Shell commands run as root in the image at the end, without network. */
  run: z.array(z.string().min(1).max(10_000)).max(100).default([]),
  user: z
    .strictObject({
      name: z.string().regex(/^[a-z_][a-z0-9_-]{0,31}$/, "must be a Unix user name"),
      uid: z.int().min(1000).max(59_999),
      home: absolutePath,
      shell: absolutePath.default("/bin/bash"),
      /** Root without a password. */
      sudo: z.boolean().default(true),
    })
    .prefault({ name: "sprite", uid: 1001, home: "/home/sprite" }),
  /** Environment of every command. */
  env: z
    .record(
      z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "must be the name of an environment variable"),
      z.string().regex(/^[^\0\n"]*$/, "must be one line without quotes"),
    )
    .default({}),
  apt: z
    .strictObject({
      /** Keep manual pages, translations and package documentation. */
      docs: z.boolean().default(false),
      /** Packages, in groups named as the author likes. */
      packages: z.record(z.string(), z.array(debianPackage).max(500)).default({}),
    })
    .prefault({}),
  npm: z
    .strictObject({
      /** Version of Node, as the npm registry has it: `24`, `24.1.0`. */
      node: z.string().regex(/^\d+(\.\d+){0,2}$/, "must be a version as `24` or `24.1.0`"),
      /** Version of npm itself. */
      npm: z
        .string()
        .regex(/^\d+(\.\d+){0,2}$/, "must be a version as `11` or `11.1.0`")
        .default("11"),
      /** Packages installed for all users. */
      packages: z.array(npmPackage).max(100).default([]),
    })
    .optional(),
  files: z
    .array(
      z.strictObject({
        path: absolutePath,
        content: z.string().max(1024 * 1024),
        mode: z
          .string()
          .regex(/^0?[0-7]{3}$/, "must be octal permissions, as `0644`")
          .default("0644"),
        owner: z.enum(["root", "user"]).default("root"),
        /** Write it before packages are installed. */
        early: z.boolean().default(false),
      }),
    )
    .max(1000)
    .default([]),
});

export type ImageDefinition = z.infer<typeof imageDefinition>;

/** Reads a definition from text. Throws `disk_image_invalid` naming every wrong field. */
export function parseDefinition(text: string, source: string): ImageDefinition {
  let raw: unknown;
  try {
    raw = parse(text);
  } catch (cause) {
    const where = cause instanceof TomlError ? ` in line ${cause.line}` : "";
    throw new DiskError("disk_image_invalid", `${source} is not valid TOML${where}`, { cause });
  }
  const parsed = imageDefinition.safeParse(raw);
  if (parsed.success) return parsed.data;
  const complaints = parsed.error.issues.map((issue) => {
    const field = issue.path.map(String).join(".");
    if (issue.code === "unrecognized_keys") return `${[field, ...issue.keys].filter(Boolean).join(".")}: there is no such field`;
    return `${field || "definition"}: ${issue.message}`;
  });
  throw new DiskError("disk_image_invalid", `${source}: ${complaints.join("; ")}`, { cause: parsed.error });
}

/** Reads a definition file. Throws `disk_image_invalid`. */
export async function readDefinition(file: string): Promise<ImageDefinition> {
  let text: string;
  try {
    if ((await fs.stat(file)).size > DEFINITION_BYTES_MAX)
      throw new DiskError("disk_image_invalid", `${file} is larger than any image definition`);
    text = await fs.readFile(file, "utf8");
  } catch (cause) {
    if (systemErrorCode(cause) === undefined) throw cause;
    throw new DiskError("disk_image_invalid", `the image definition ${file} cannot be read`, { cause });
  }
  return parseDefinition(text, file);
}

/** All Debian packages of a definition, sorted, each once. */
export function aptPackages(definition: ImageDefinition): string[] {
  return [...new Set(Object.values(definition.apt.packages).flat())].sort();
}
