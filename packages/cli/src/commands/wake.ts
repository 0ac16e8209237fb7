/** `sprite wake`: wakes a sprite and waits until commands can run. */
import { getSprite, wakeSprite } from "../api/sprites.ts";
import { seconds } from "../output/age.ts";
import { Spinner } from "../output/spinner.ts";
import { err } from "../output/style.ts";
import { printable } from "../output/text-width.ts";
import type { CommandContext } from "./catalogue.ts";
import { completes, JSON_FLAG, newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

export function build(context: CommandContext) {
  const command = newCommand("sprite wake", "Wake a sprite. Any command does so too; this one only waits for it.", [
    ["sprite wake dev", "ready when it returns"],
  ])
    .argument("[name]", "the sprite; else -s, else the one of this directory")
    .option(JSON_FLAG, "print the sprite as JSON")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (name, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options }, name);
      const before = await found(target, getSprite(target.server, target.sprite));
      const startedMs = performance.now();
      using spinner = new Spinner();
      spinner.show(`waking ${target.sprite}`);
      const sprite = await found(target, wakeSprite(target.server, target.sprite));
      spinner.stop();
      if (options.json) return void process.stdout.write(`${JSON.stringify(sprite.raw, undefined, 2)}\n`);
      const how = before.status === "warm" ? "goes on where it was" : before.status === "running" ? "was awake" : "has started";
      process.stdout.write(`${printable(sprite.name)} ${how} (${seconds(performance.now() - startedMs)})\n`);
      if (before.memoryLost !== undefined)
        process.stderr.write(err("dim", `its processes were lost before: ${printable(before.memoryLost)}\n`));
    });
  return completes(command, "sprite");
}
