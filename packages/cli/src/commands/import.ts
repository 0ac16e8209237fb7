/** `sprite import`: a sprite made of one file. */
import fs from "node:fs";
import type { Readable } from "node:stream";
import { readSprite } from "../api/sprites.ts";
import { randomName } from "../args/random-name.ts";
import { localError } from "../files/local.ts";
import { Progress } from "../files/progress.ts";
import { counted } from "../files/send.ts";
import { upload } from "../files/remote.ts";
import type { CommandContext } from "./catalogue.ts";
import { JSON_FLAG, newCommand, ORG_FLAG, ORG_HELP } from "./command.ts";
import { loadVerifiedServer } from "./server.ts";

export function build(context: CommandContext) {
  return newCommand("sprite import", "Make a sprite of a file that `sprite export` wrote. All of it is checked first.", [
    ["sprite import dev.sprite dev", "as the sprite dev"],
    ["sprite import dev.sprite", "with a friendly name"],
  ])
    .argument("<file>", "file to read; - is standard input")
    .argument("[name]", "lower-case letters, digits and hyphens")
    .option(JSON_FLAG, "print the sprite as JSON")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (file, name, options) => {
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      const sprite = name ?? context.flags.sprite ?? randomName();
      const size = file === "-" ? undefined : (await localError(fs.promises.stat(file), file)).size;
      const source: Readable = file === "-" ? process.stdin : fs.createReadStream(file);
      using progress = new Progress(file === "-" ? sprite : file, size);
      const path = `/v1/sprites/${encodeURIComponent(sprite)}/import`;
      const answer = await upload(
        { address: server, sprite },
        path,
        counted(source, (bytes) => progress.add(bytes)),
        {
          method: "POST",
          headers: { "content-type": "application/zstd" },
        },
      );
      const made = readSprite(answer);
      process.stdout.write(options.json ? `${JSON.stringify(made.raw)}\n` : `imported ${made.name}\n`);
    });
}
