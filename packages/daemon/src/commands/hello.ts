import { ApiClient, execHttp } from "@sprited/protocol/client";
import { ApiError } from "@sprited/protocol/errors";
import type { ProgressReporter } from "../setup/index.ts";

/**
 * The first sprite: made once, on the very first start of a home, to show that everything works.
 */

const NAME = "hello";
/** What is shown: who and where one is. */
const ARGV = ["sh", "-c", "echo \"Hello from $(whoami)@$(hostname), Linux $(uname -r), $(nproc) CPU, up $(cut -d' ' -f1 /proc/uptime) s\""];

export interface HelloOptions {
  baseUrl: string;
  token: string;
  progress: ProgressReporter;
  signal?: AbortSignal | undefined;
}

/** Creates `hello` and runs a command in it. Throws what the API answers. */
export async function sayHello(options: HelloOptions): Promise<void> {
  const { baseUrl, token, progress, signal } = options;
  const client = new ApiClient({ baseUrl, token });
  await progress.step("first sprite: hello", async () => {
    try {
      await client.call("createSprite", { body: { name: NAME } }, { signal });
    } catch (error) {
      if (!ApiError.is(error) || error.code !== "sprite_name_taken") throw error;
    }
  });
  const output: Uint8Array[] = [];
  const exitCode = await progress.step("first command in it", async () =>
    execHttp({ baseUrl, token, sprite: NAME, argv: ARGV }, (_stream, data) => void output.push(data), signal ? { signal } : {}),
  );
  progress.line(`\n  $ npx sprite exec -s ${NAME} -- …\n  ${Buffer.concat(output).toString("utf8").trim().replaceAll("\n", "\n  ")}`);
  if (exitCode !== 0) progress.line(`  (exit code ${exitCode})`);
}
