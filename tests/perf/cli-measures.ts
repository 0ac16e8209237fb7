/** Measures of the command line: what it adds to a bare program start, and to the official client. */
import { spawn } from "node:child_process";
import path from "node:path";
import { bundleCli } from "../../tools/cli-bundle.ts";
import { CliHome, SPRITE } from "../e2e/cli-run.ts";
import { uniqueName } from "../kit/target.ts";
import { type Bench, createAndEcho, deleteSprite } from "./bench.ts";
import { type Figure, interleave, timed } from "./rounds.ts";

/** The least a user of the official client writes. */
const SDK_PROGRAM = `
import { SpritesClient } from "@fly/sprites";
const client = new SpritesClient(process.env.SPRITE_TOKEN, { baseURL: process.env.SPRITES_API_URL });
const command = client.sprite(process.argv[1]).spawn("true", []);
command.on("error", (error) => { console.error(error); process.exit(1); });
command.on("exit", (code) => process.exit(code));
`;

export async function measureCli(bench: Bench): Promise<Figure[]> {
  const { daemon } = bench;
  await bundleCli();
  const name = uniqueName("cli");
  await createAndEcho(daemon, name);
  const home = await CliHome.make({ SPRITES_API_URL: daemon.baseUrl, SPRITE_TOKEN: daemon.token });
  const node =
    (...args: string[]) =>
    () =>
      timed(() => runToEnd(process.execPath, args, home.env));
  const sprite =
    (...args: string[]) =>
    () =>
      timed(() => runToEnd(SPRITE, args, home.env));
  try {
    const version = await interleave(bench.rounds * 4, sprite("--version"), node("-e", "0"));
    const exec = await interleave(
      bench.rounds * 4,
      sprite("exec", "-s", name, "true"),
      node("--input-type=module", "-e", SDK_PROGRAM, name),
    );
    return [
      {
        id: "cli-version",
        what: "`sprite --version`",
        unit: "ms",
        product: version.a,
        baseline: { what: "`node -e 0`", samples: version.b },
        target: { kind: "ratio_max", value: 2 },
      },
      {
        id: "cli-exec",
        what: "`sprite exec true`, sprite running",
        unit: "ms",
        product: exec.a,
        baseline: { what: "the same by the official client for JavaScript in a process of its own", samples: exec.b },
        target: { kind: "ratio_max", value: 1.5 },
      },
    ];
  } finally {
    await home.remove();
    await deleteSprite(daemon, name);
  }
}

async function runToEnd(program: string, args: readonly string[], env: Record<string, string>): Promise<void> {
  // The official client is found from here.
  const child = spawn(program, [...args], { env, cwd: path.resolve(import.meta.dirname, ".."), stdio: ["ignore", "ignore", "inherit"] });
  const code = await new Promise((resolve, reject) => child.on("exit", resolve).on("error", reject));
  if (code !== 0) throw new Error(`${program} ${args.slice(0, 2).join(" ")} ended with ${String(code)}`);
}
