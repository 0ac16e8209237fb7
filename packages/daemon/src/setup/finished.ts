import { readFile, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";

/**
 * Which steps of the set-up were finished once in a home (`setup.json`). Only for estimating
 * what is still to be done; every step checks its own result again. Lost or damaged, it costs
 * an estimate that is too high.
 */

const finishedSchema = z.object({ format: z.literal(1), finished: z.array(z.string().max(100)).max(100) });

/** Ids of the finished steps; empty when nothing readable is there. */
export async function readFinished(home: string): Promise<ReadonlySet<string>> {
  try {
    const parsed = finishedSchema.safeParse(JSON.parse(await readFile(finishedPath(home), "utf8")));
    return new Set(parsed.success ? parsed.data.finished : []);
  } catch (error) {
    if (error instanceof SyntaxError || ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return new Set();
    throw error;
  }
}

/** Adds a step; written whole or not at all. */
export async function markFinished(home: string, id: string): Promise<void> {
  const finished = await readFinished(home);
  if (finished.has(id)) return;
  const file = finishedPath(home);
  const temporary = `${file}.${process.pid}.new`;
  await writeFile(temporary, `${JSON.stringify({ format: 1, finished: [...finished, id] })}\n`);
  await rename(temporary, file);
}

function finishedPath(home: string): string {
  return path.join(home, "setup.json");
}
