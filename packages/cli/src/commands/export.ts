/** `sprite export`: a sprite as one file. */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { localError } from "../files/local.ts";
import { Progress } from "../files/progress.ts";
import { chunksOf, download } from "../files/remote.ts";
import { CliError } from "../output/cli-error.ts";
import type { CommandContext } from "./catalogue.ts";
import { newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

export function build(context: CommandContext) {
  return newCommand("sprite export", "Write a sprite's disk and settings into one file, for another host.", [
    ["sprite export dev.sprite", "as it is now, while it runs"],
    ["sprite export dev.sprite --checkpoint v0", "as it was"],
  ])
    .argument("<file>", "file to write; - is standard output")
    .option("--checkpoint <id>", "the state of this checkpoint")
    .option("--force", "replace a file that is there")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (file, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const query = options.checkpoint === undefined ? "" : `?checkpoint=${encodeURIComponent(options.checkpoint)}`;
      const remote = { address: target.server, sprite: target.sprite };
      if (file !== "-" && !options.force && fs.existsSync(file))
        throw new CliError(`${file} is there already.`, { hint: "Add --force, or choose another name.", code: "file_exists" });
      const response = await found(target, download(remote, `/v1/sprites/${encodeURIComponent(target.sprite)}/export${query}`));
      using progress = new Progress(target.sprite, undefined);
      const chunks = async function* () {
        for await (const chunk of chunksOf(response)) {
          progress.done += chunk.length;
          yield chunk;
        }
      };
      if (file === "-") {
        await pipeline(chunks, process.stdout, { end: false });
        return;
      }
      const temporary = path.join(path.dirname(file), `.${path.basename(file)}.${randomBytes(4).toString("hex")}.part`);
      try {
        await localError(pipeline(chunks, fs.createWriteStream(temporary, { mode: 0o600, flags: "wx" })), file);
        await fs.promises.rename(temporary, file);
      } finally {
        await fs.promises.rm(temporary, { force: true });
      }
      process.stdout.write(`wrote ${target.sprite} to ${file}\n`);
    });
}
