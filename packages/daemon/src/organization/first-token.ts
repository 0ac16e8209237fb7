/** The first organization and the admin token in `$SPRITED_HOME/token`, made when they are missing. */
import fs from "node:fs/promises";
import path from "node:path";
import { ApiError } from "@sprited/protocol/errors";
import type { Organizations } from "./organizations.ts";

/** Slug of the organization that a new server begins with. */
const FIRST_ORGANIZATION_SLUG = "local";

/**
 * Makes sure that `tokenPath` holds a valid admin token (mode 0600). A file whose token is valid
 * is left alone; one that was deleted, or that belongs to another database, is replaced.
 */
export async function ensureFirstToken(organizations: Organizations, tokenPath: string): Promise<{ created: boolean }> {
  const present = await readIfThere(tokenPath);
  if (present !== undefined && isValid(organizations, present.trim())) {
    await fs.chmod(tokenPath, 0o600);
    return { created: false };
  }
  const organization =
    organizations.list().find(({ slug }) => slug === FIRST_ORGANIZATION_SLUG) ?? organizations.create(FIRST_ORGANIZATION_SLUG, "Local");
  const { text } = organizations.createToken(organization, { description: "first admin token", namePrefix: undefined, admin: true });
  await writeSecret(tokenPath, `${text}\n`);
  return { created: true };
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await fs.readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function isValid(organizations: Organizations, text: string): boolean {
  try {
    return organizations.authenticate(text).admin;
  } catch (error) {
    if (ApiError.is(error)) return false;
    throw error;
  }
}

/** Replaces the file in one step; nobody else can read it at any moment. */
async function writeSecret(file: string, text: string): Promise<void> {
  const temporary = path.join(path.dirname(file), `.${path.basename(file)}.new`);
  await fs.rm(temporary, { force: true });
  const handle = await fs.open(temporary, "wx", 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await fs.rename(temporary, file);
}
