/** `sprite fork`: sprites that begin as this one is. */
import { callApi } from "../api/http.ts";
import { readSprite } from "../api/sprites.ts";
import { decodeCount, decodeRepeated } from "../args/decoders.ts";
import { seconds } from "../output/age.ts";
import { Spinner } from "../output/spinner.ts";
import { isObject } from "../settings/files.ts";
import type { CommandContext } from "./catalogue.ts";
import { JSON_FLAG, newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

const FORK_TIMEOUT_MS = 600_000;

export function build(context: CommandContext) {
  return newCommand("sprite fork", "Make sprites that begin as this one is. It stands still once, however many.", [
    ["sprite fork try-a try-b", "two, with these names"],
    ["sprite fork -n 10 --memory", "ten, with its processes running"],
  ])
    .argument("[names...]", "names of the forks")
    .option("-n, --count <count>", "how many, with names made of the sprite's", decodeCount)
    .option("--memory", "copy the running processes too")
    .option("--label <label>", "a label; may be repeated", decodeRepeated)
    .option(JSON_FLAG, "print the sprites as JSON")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (names, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const startedMs = performance.now();
      using spinner = new Spinner();
      spinner.show(`forking ${target.sprite}`);
      const body = {
        ...(names.length > 0 ? { names } : {}),
        ...(options.count === undefined ? {} : { count: options.count }),
        ...(options.memory ? { memory: true } : {}),
        ...(options.label === undefined ? {} : { labels: options.label }),
      };
      const path = `/v1/sprites/${encodeURIComponent(target.sprite)}/fork`;
      const answer = await found(target, callApi(target.server, { method: "POST", path, body, timeoutMs: FORK_TIMEOUT_MS }));
      spinner.stop();
      const sprites = isObject(answer) && Array.isArray(answer["sprites"]) ? answer["sprites"].map(readSprite) : [];
      if (options.json) {
        process.stdout.write(
          `${JSON.stringify(
            sprites.map(({ raw }) => raw),
            undefined,
            2,
          )}\n`,
        );
        return;
      }
      for (const { name } of sprites) process.stdout.write(`${name}\n`);
      if (process.stderr.isTTY)
        process.stderr.write(
          `made ${sprites.length === 1 ? "one fork" : `${sprites.length} forks`} in ${seconds(performance.now() - startedMs)}\n`,
        );
    });
}
