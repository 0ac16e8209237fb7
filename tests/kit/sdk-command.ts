/** Commands through the official client's `spawn`: input, output as bytes, exit code. */
import type { Sprite } from "@fly/sprites";
import { withDeadline } from "@sprited/base";

/** Longest a test command may take, ms. */
const COMMAND_TIMEOUT_MS = 120_000;

export type SpawnOptions = NonNullable<Parameters<Sprite["spawn"]>[2]>;
export type SpriteCommand = ReturnType<Sprite["spawn"]>;

export interface Finished {
  code: number;
  stdout: Buffer;
  stderr: Buffer;
}

/** Resolves when the command's socket is open. Rejects with its first error. */
export async function spawned(command: SpriteCommand): Promise<SpriteCommand> {
  await withDeadline(
    "the command's start",
    { timeoutMs: COMMAND_TIMEOUT_MS },
    () =>
      new Promise<void>((resolve, reject) => {
        command.once("spawn", () => resolve());
        command.on("error", reject);
      }),
  );
  return command;
}

/** Collects a spawned command's output to its end. Call before anything was awaited. */
export async function finished(command: SpriteCommand): Promise<Finished> {
  const stdout = collect(command.stdout);
  const stderr = collect(command.stderr);
  return await withDeadline("the command's end", { timeoutMs: COMMAND_TIMEOUT_MS }, async () => {
    const code = await new Promise<number>((resolve, reject) => {
      command.on("exit", resolve);
      command.on("error", reject);
    });
    return { code, stdout: await stdout, stderr: await stderr };
  });
}

/** Spawns, sends `input` (then end of input), waits for the end. */
export async function spawnToEnd(
  sprite: Sprite,
  argv: readonly string[],
  options: SpawnOptions & { input?: string | Uint8Array } = {},
): Promise<Finished> {
  const { input, ...rest } = options;
  const command = sprite.spawn(argv[0] ?? "", argv.slice(1), rest);
  const end = finished(command);
  end.catch(() => {}); // awaited below; the start may fail first
  await spawned(command);
  if (!rest.tty) command.stdin.end(input === undefined ? undefined : Buffer.from(input as Uint8Array));
  return await end;
}

/** Output seen so far, for commands that are watched while they run. */
export function watchOutput(command: SpriteCommand): { stdout: () => string; stderr: () => string } {
  const seen = { stdout: "", stderr: "" };
  command.stdout.on("data", (chunk: Buffer) => {
    seen.stdout += chunk.toString("utf8");
  });
  command.stderr.on("data", (chunk: Buffer) => {
    seen.stderr += chunk.toString("utf8");
  });
  return { stdout: () => seen.stdout, stderr: () => seen.stderr };
}

async function collect(stream: NodeJS.ReadableStream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks);
}
