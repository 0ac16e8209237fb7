/** `sprite create`: makes a sprite, wakes it, opens a console in it. */
import { decodeCount, decodeRepeated } from "../args/decoders.ts";
import { randomName } from "../args/random-name.ts";
import { createSprite, type NewSprite, type SpriteInfo } from "../api/sprites.ts";
import { ApiError } from "@sprited/protocol/errors";
import { connectExec } from "../exec/connect.ts";
import { seconds } from "../output/age.ts";
import { CliError } from "../output/cli-error.ts";
import { Spinner } from "../output/spinner.ts";
import { err } from "../output/style.ts";
import { loadVerifiedServer } from "./server.ts";
import type { Target } from "../settings/load.ts";
import type { CommandContext } from "./catalogue.ts";
import { JSON_FLAG, newCommand, ORG_FLAG, ORG_HELP } from "./command.ts";
import { openConsole } from "./console.ts";

/** Random names tried before giving up. */
const NAME_ATTEMPTS = 5;

export function build(context: CommandContext) {
  return newCommand("sprite create", "Make a sprite and open a console in it. Without a name it gets a friendly one.", [
    ["sprite create dev", "make `dev` and open a console"],
    ["sprite create --skip-console", "only make one, with a random name"],
    ["sprite create db --cpus 2 --ram-mb 4096", "a larger one"],
  ])
    .argument("[name]", "lower-case letters, digits and hyphens")
    .option("--skip-console", "do not open a console")
    .option("--label <label>", "a label; may be repeated", decodeRepeated)
    .option("--image <name>", "base image instead of the server's default")
    .option("--template <name>", "begin as a template, NAME or NAME@VERSION")
    .option("--cpus <count>", "virtual CPUs", decodeCount)
    .option("--ram-mb <mb>", "memory", decodeCount)
    .option("--storage-gb <gb>", "size of the disk", decodeCount)
    .option(JSON_FLAG, "print the sprite as JSON; implies --skip-console")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (name, options) => {
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      using spinner = new Spinner();
      const startedMs = performance.now();
      const wish = {
        labels: options.label ?? [],
        image: options.image,
        template: options.template,
        cpus: options.cpus,
        ramMb: options.ramMb,
        storageGb: options.storageGb,
      };
      const sprite = await create(server, name ?? context.flags.sprite, wish, spinner);
      const target: Target = { server, sprite: sprite.name, fromFile: false };
      const madeMs = performance.now() - startedMs;
      const noTerminal = !process.stdin.isTTY || !process.stdout.isTTY;
      if (options.skipConsole || options.json || noTerminal) {
        spinner.show(`waking ${sprite.name}`);
        await wake(target);
        spinner.stop();
        if (options.json) process.stdout.write(`${JSON.stringify(sprite.raw)}\n`);
        else process.stdout.write(`created ${sprite.name} in ${seconds(madeMs)}; ready after ${seconds(performance.now() - startedMs)}\n`);
        if (process.stderr.isTTY && !options.json) process.stderr.write(err("dim", `Next: sprite console -s ${sprite.name}\n`));
        return;
      }
      spinner.stop();
      process.stderr.write(`created ${sprite.name} in ${seconds(madeMs)}\n`);
      context.exitCode = await openConsole(target);
    });
}

async function create(
  server: Target["server"],
  name: string | undefined,
  wish: Omit<NewSprite, "name">,
  spinner: Spinner,
): Promise<SpriteInfo> {
  for (let attempt = 1; ; attempt++) {
    const chosen = name ?? randomName();
    spinner.show(`creating ${chosen}`);
    try {
      return await createSprite(server, { name: chosen, ...wish });
    } catch (error) {
      const taken = ApiError.is(error) && error.code === "sprite_name_taken";
      if (!taken || name !== undefined || attempt === NAME_ATTEMPTS) throw error;
    }
  }
}

/** Runs `true` in the sprite: then it is known to answer, on every server of this API. */
async function wake(target: Target): Promise<void> {
  try {
    const connection = await connectExec(target, { kind: "command", argv: ["true"], stdin: false }, { output: () => {} });
    await connection.ended;
  } catch (cause) {
    const why = ApiError.is(cause) ? ` ${cause.message}` : "";
    throw new CliError(`${target.sprite} was created but did not start:${why === "" ? " the connection failed." : why}`, {
      hint: `Try \`sprite console -s ${target.sprite}\`, or \`sprite destroy ${target.sprite}\`.`,
      code: "not_started",
      cause,
    });
  }
}
