/**
 * Which homes have networks on this host: one file per home, `<directory>/<home id>.json`, written
 * before anything of the network exists and removed after the last of it is gone.
 *
 * Names on the host carry only a hash of the home's path, so without its record nobody could tell
 * what belongs to a home that is gone. The records lie in memory, as the networks do: a host that
 * boots has neither.
 */
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";

/** Where the daemons of this host keep the records. */
export const RECORDS_DIRECTORY = "/run/sprited/networks";

const recordSchema = z.object({
  /** Absolute path of the home. */
  home: z.string().startsWith("/").max(4096),
  /** Process that has its slots open. */
  pid: z.int().positive(),
  /** When that process began, ticks since the host booted: a number may be given to another. */
  startTicks: z.string().regex(/^[0-9]+$/),
});

export interface HomeRecord extends z.infer<typeof recordSchema> {
  /** 8 hex digits in the names of everything the home has on the host. */
  homeId: string;
}

/** Writes down that this process has the slots of `home` open; not for a home that does not exist. */
export async function writeHomeRecord(homeId: string, home: string, directory = RECORDS_DIRECTORY): Promise<void> {
  if (!(await exists(home))) return;
  await mkdir(directory, { recursive: true, mode: 0o755 });
  const file = recordPath(directory, homeId);
  const draft = `${file}.${process.pid}.tmp`;
  await writeFile(draft, `${JSON.stringify({ home, pid: process.pid, startTicks: await startTicksOf(process.pid) })}\n`);
  await rename(draft, file);
}

export async function removeHomeRecord(homeId: string, directory = RECORDS_DIRECTORY): Promise<void> {
  await rm(recordPath(directory, homeId), { force: true });
}

/** Records of homes that are not there any more and whose process has ended. */
export async function findGoneHomes(directory = RECORDS_DIRECTORY): Promise<HomeRecord[]> {
  const records = await Promise.all((await entries(directory)).map((name) => readRecord(directory, name)));
  const gone: HomeRecord[] = [];
  for (const record of records) {
    if (!record || (await exists(record.home))) continue;
    if ((await startTicksOf(record.pid)) !== record.startTicks) gone.push(record);
  }
  return gone;
}

function recordPath(directory: string, homeId: string): string {
  return path.join(directory, `${homeId}.json`);
}

async function readRecord(directory: string, name: string): Promise<HomeRecord | undefined> {
  const homeId = /^([0-9a-f]{8})\.json$/.exec(name)?.[1];
  if (homeId === undefined) return undefined;
  try {
    const parsed = recordSchema.safeParse(JSON.parse(await readFile(path.join(directory, name), "utf8")));
    return parsed.success ? { ...parsed.data, homeId } : undefined;
  } catch {
    return undefined; // removed meanwhile, or not one of ours
  }
}

async function entries(directory: string): Promise<string[]> {
  return await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
}

/** False only when it is certain that there is nothing at `file`. */
async function exists(file: string): Promise<boolean> {
  return await stat(file).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code !== "ENOENT" && error.code !== "ENOTDIR",
  );
}

/** When a process began; undefined when there is none of that number. */
async function startTicksOf(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The second field, a program's name in brackets, may contain anything.
  return text.slice(text.lastIndexOf(")") + 2).split(" ")[19];
}
