import { readFile, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";

/**
 * Which steps of the set-up were finished once in a home (`setup.json`), and for steps that are
 * costly to look at again, what their result depended on. Lost or damaged, it costs an estimate
 * that is too high and a second look.
 */

const finishedSchema = z.object({
  format: z.literal(1),
  finished: z.array(z.string().max(100)).max(100),
  /** By step: digest of everything its result depended on. */
  fingerprints: z.record(z.string().max(100), z.string().max(100)).default({}),
});
type Finished = z.infer<typeof finishedSchema>;

const NOTHING: Finished = { format: 1, finished: [], fingerprints: {} };

/** Ids of the finished steps; empty when nothing readable is there. */
export async function readFinished(home: string): Promise<ReadonlySet<string>> {
  return new Set((await readState(home)).finished);
}

/** What a step's result depended on when it was last finished. */
export async function findFingerprint(home: string, id: string): Promise<string | undefined> {
  return (await readState(home)).fingerprints[id];
}

/** Adds a step; written whole or not at all. */
export async function markFinished(home: string, id: string, fingerprint?: string): Promise<void> {
  const state = await readState(home);
  if (state.finished.includes(id) && state.fingerprints[id] === fingerprint) return;
  const finished = state.finished.includes(id) ? state.finished : [...state.finished, id];
  const fingerprints = fingerprint === undefined ? state.fingerprints : { ...state.fingerprints, [id]: fingerprint };
  const file = finishedPath(home);
  const temporary = `${file}.${process.pid}.new`;
  await writeFile(temporary, `${JSON.stringify({ format: 1, finished, fingerprints } satisfies Finished)}\n`);
  await rename(temporary, file);
}

async function readState(home: string): Promise<Finished> {
  try {
    return finishedSchema.safeParse(JSON.parse(await readFile(finishedPath(home), "utf8"))).data ?? NOTHING;
  } catch (error) {
    if (error instanceof SyntaxError || ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return NOTHING;
    throw error;
  }
}

function finishedPath(home: string): string {
  return path.join(home, "setup.json");
}
