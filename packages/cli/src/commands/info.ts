/** `sprite info`: everything about one sprite. */
import { getSprite, type SpriteInfo } from "../api/sprites.ts";
import { age } from "../output/age.ts";
import { out, statusFormat } from "../output/style.ts";
import { printable } from "../output/text-width.ts";
import type { CommandContext } from "./catalogue.ts";
import { JSON_FLAG, newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { loadVerifiedTarget } from "./server.ts";
import { found } from "./not-found.ts";

/** Columns of the names on the left. */
const NAME_WIDTH = 14;

export function build(context: CommandContext) {
  return newCommand("sprite info", "Show one sprite in full.", [
    ["sprite info", "the sprite of this directory"],
    ["sprite info -s dev --json", "for programs"],
  ])
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const sprite = await found(target, getSprite(target.server, target.sprite));
      process.stdout.write(
        options.json ? `${JSON.stringify(sprite.raw, undefined, 2)}\n` : `${infoLines(sprite, Date.now()).join("\n")}\n`,
      );
    });
}

function infoLines(sprite: SpriteInfo, nowMs: number): string[] {
  const since = (time: string | undefined): string => (time === undefined ? "" : `${time} (${age(time, nowMs)} ago)`);
  const facts: [name: string, value: string][] = [
    ["name", sprite.name],
    ["status", sprite.status ?? ""],
    ["failure", sprite.failure ?? ""],
    ["memory lost", sprite.memoryLost ?? ""],
    ["organization", sprite.organization ?? ""],
    ["url", sprite.url ?? ""],
    ["url access", urlAccess(sprite)],
    ["cpus", sprite.cpus?.toString() ?? ""],
    ["memory", sprite.ram === undefined ? "" : `${sprite.ram} MB`],
    ["disk", sprite.storage === undefined ? "" : `${sprite.storage} GB`],
    ["image", sprite.image ?? ""],
    ["labels", sprite.labels.join(", ")],
    ["created", since(sprite.createdAt)],
    ["last running", since(sprite.lastRunningAt)],
  ];
  return facts
    .filter(([, value]) => value !== "")
    .map(([name, value]) => {
      const text = printable(value);
      const painted = name === "status" ? out(statusFormat(value), text) : name === "failure" ? out("red", text) : text;
      return `${out("dim", name.padEnd(NAME_WIDTH))}${painted}`;
    });
}

/** Who may open the sprite's URL, in words. */
export function urlAccess(sprite: SpriteInfo): string {
  if (sprite.urlAuth === undefined) return "";
  if (sprite.urlAuth === "public") return "public: anyone";
  return `${sprite.urlAuth}: only with a token${sprite.privateAccess === undefined ? "" : ` (${sprite.privateAccess})`}`;
}
