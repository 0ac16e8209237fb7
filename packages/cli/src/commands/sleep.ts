/** `sprite sleep`: puts a sprite to sleep now. */
import { sleepSprite } from "../api/sprites.ts";
import { seconds } from "../output/age.ts";
import { Spinner } from "../output/spinner.ts";
import { printable } from "../output/text-width.ts";
import type { CommandContext } from "./catalogue.ts";
import { completes, JSON_FLAG, newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

export function build(context: CommandContext) {
  const command = newCommand("sprite sleep", "Put a sprite to sleep now. What runs in it goes on when it wakes.", [
    ["sprite sleep dev", "its memory goes into a file"],
    ["sprite sleep dev --cold", "shut its Linux down, keep the disk"],
  ])
    .argument("[name]", "the sprite; else -s, else the one of this directory")
    .option("--cold", "end what runs in it; only the disk is kept")
    .option(JSON_FLAG, "print the sprite as JSON")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (name, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options }, name);
      const startedMs = performance.now();
      using spinner = new Spinner();
      spinner.show(`putting ${target.sprite} to sleep`);
      const sprite = await found(target, sleepSprite(target.server, target.sprite, options.cold === true));
      spinner.stop();
      if (options.json) return void process.stdout.write(`${JSON.stringify(sprite.raw, undefined, 2)}\n`);
      const kept = sprite.status === "warm" ? "its memory is kept" : "only its disk is kept";
      process.stdout.write(`${printable(sprite.name)} sleeps, ${kept} (${seconds(performance.now() - startedMs)})\n`);
    });
  return completes(command, "sprite");
}
