/** `sprite list`: the sprites of the organization as a table, as JSON, or live. */
import { listSprites } from "../api/sprites.ts";
import { err } from "../output/style.ts";
import type { CommandContext } from "./catalogue.ts";
import { JSON_FLAG, newCommand, ORG_FLAG, ORG_HELP } from "./command.ts";
import { loadVerifiedServer } from "./server.ts";
import { spriteTable } from "./sprite-table.ts";

export function build(context: CommandContext) {
  return newCommand("sprite list", "Show the sprites of the organization.", [
    ["sprite list", "all of them"],
    ["sprite list --prefix ci- --json", "some, for programs"],
    ["sprite ls -w", "live"],
  ])
    .option("--prefix <text>", "only names that begin with it")
    .option("-w, --watch", "keep showing changes until Ctrl-C")
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (options) => {
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      if (options.watch) {
        const { watchSprites } = await import("./watch.ts");
        return await watchSprites(server, { prefix: options.prefix, json: options.json === true });
      }
      const sprites = await listSprites(server, options.prefix);
      if (options.json)
        process.stdout.write(
          `${JSON.stringify(
            sprites.map((sprite) => sprite.raw),
            undefined,
            2,
          )}\n`,
        );
      else if (sprites.length > 0)
        process.stdout.write(`${spriteTable(sprites, Date.now(), process.stdout.isTTY ? process.stdout.columns : undefined).join("\n")}\n`);
      else process.stderr.write(`${err("dim", "There are no sprites yet; `sprite create` makes one.")}\n`);
    });
}
