/** `sprite template`: prepared sprites to make others from. */
import { callApi } from "../api/http.ts";
import { decodeEnv, decodeRepeated, envRecord } from "../args/decoders.ts";
import { age } from "../output/age.ts";
import { CliError } from "../output/cli-error.ts";
import { confirm } from "../output/prompt.ts";
import { Spinner } from "../output/spinner.ts";
import { err, out } from "../output/style.ts";
import { renderTable } from "../output/table.ts";
import { isObject } from "../settings/files.ts";
import type { CommandContext } from "./catalogue.ts";
import { JSON_FLAG, newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { loadVerifiedServer, loadVerifiedTarget } from "./server.ts";

/** Taking and verifying a checkpoint is part of it, ms. */
const CREATE_TIMEOUT_MS = 900_000;

/** A template as this command reads it; anything may be missing. */
interface Template {
  name: string;
  version: number;
  isMemory: boolean;
  memoryState: string;
  source: string;
  bytes: number;
  versions: number;
  pools: string[];
  createdAt: string | undefined;
  raw: unknown;
}

export function build(context: CommandContext) {
  const command = newCommand("sprite template", "Save points made reusable: sprites and pools are made from them.", [
    ["sprite template create web -s dev", "a template `web` of what `dev` is now"],
    ["sprite create w1 --template web", "a sprite from it"],
  ]);
  for (const part of [create, list, get, promote, remove]) command.addCommand(part(context));
  return command;
}

function create(context: CommandContext) {
  return newCommand("create", "Make a template, or the next version of one, from a sprite.", [
    ["sprite template create web -s dev", "from what `dev` is now"],
    ["sprite template create web --checkpoint v3", "from a checkpoint"],
    ["sprite template create web --memory", "with its processes"],
  ])
    .argument("<name>", "lower-case letters, digits and hyphens")
    .option("--checkpoint <id>", "a checkpoint of the sprite; else its present state")
    .option("--memory", "keep the running processes too")
    .option("--description <text>", "what it is for")
    .option("--env <NAME=value>", "environment of sprites made from it; repeatable", decodeEnv)
    .option("--label <label>", "label of sprites made from it; repeatable", decodeRepeated)
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (name, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      using spinner = new Spinner();
      spinner.show(`making ${name} from ${target.sprite}`);
      const body = {
        name,
        sprite: target.sprite,
        ...(options.checkpoint === undefined ? {} : { checkpoint: options.checkpoint }),
        ...(options.memory === undefined ? {} : { memory: true }),
        ...(options.description === undefined ? {} : { description: options.description }),
        ...(options.env === undefined ? {} : { environment: envRecord(options.env) }),
        ...(options.label === undefined ? {} : { labels: options.label }),
      };
      const made = readTemplate(
        await callApi(target.server, { method: "POST", path: "/v1/templates", body, timeoutMs: CREATE_TIMEOUT_MS }),
      );
      spinner.stop();
      if (options.json) process.stdout.write(`${JSON.stringify(made.raw, undefined, 2)}\n`);
      else process.stdout.write(`${made.name} version ${made.version}${made.isMemory ? ", with memory" : ""}\n`);
    });
}

function list(context: CommandContext) {
  return newCommand("list", "Show the templates of the organization.", [["sprite template list --json", "for programs"]])
    .alias("ls")
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (options) => {
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      const answer = await callApi(server, { method: "GET", path: "/v1/templates" });
      const found = isObject(answer) && Array.isArray(answer["templates"]) ? answer["templates"] : [];
      const rows = found.map(readTemplate);
      if (options.json) process.stdout.write(`${JSON.stringify(found, undefined, 2)}\n`);
      else if (rows.length === 0)
        process.stderr.write(`${err("dim", "There are no templates yet; `sprite template create` makes one.")}\n`);
      else process.stdout.write(`${templateTable(rows).join("\n")}\n`);
    });
}

function get(context: CommandContext) {
  return newCommand("get", "Show one template with its versions, as JSON.", [["sprite template get web", "all there is to know"]])
    .argument("<name>", "the template")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (name, options) => {
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      process.stdout.write(`${JSON.stringify(await callApi(server, { method: "GET", path: templatePath(name) }), undefined, 2)}\n`);
    });
}

function promote(context: CommandContext) {
  return newCommand("promote", "Make a version the current one; pools roll to it.", [
    ["sprite template promote web 2", "back to version 2"],
  ])
    .argument("<name>", "the template")
    .argument("<version>", "its number")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (name, version, options) => {
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      const body = { version: Number(version) };
      const now = readTemplate(await callApi(server, { method: "POST", path: `${templatePath(name)}/promote`, body }));
      process.stdout.write(`${now.name} is version ${now.version} now\n`);
    });
}

function remove(context: CommandContext) {
  return newCommand("delete", "Delete a template with all its versions. Sprites made from it stay.", [
    ["sprite template delete web --force", "without asking, even if a pool uses it"],
  ])
    .alias("rm")
    .argument("<name>", "the template")
    .option("--force", "do not ask; pools that use it fill no more")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (name, options) => {
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      if (!options.force) {
        if (!process.stdin.isTTY)
          throw new CliError(`Will not delete ${name} without being asked on a terminal.`, { hint: "Add --force.", code: "not_confirmed" });
        if (!(await confirm(`Delete the template ${name} with all its versions?`)))
          throw new CliError("Nothing was deleted.", { code: "not_confirmed" });
      }
      await callApi(server, { method: "DELETE", path: `${templatePath(name)}${options.force ? "?force=true" : ""}` });
      process.stdout.write(`deleted ${name}\n`);
    });
}

function templateTable(rows: readonly Template[]): string[] {
  return renderTable<Template>(
    [
      { title: "NAME", cell: (row) => row.name, paint: (text) => out("bold", text) },
      { title: "VERSION", cell: (row) => String(row.version) },
      { title: "MEMORY", cell: (row) => (row.isMemory ? (row.memoryState === "unusable" ? "unusable here" : "yes") : "no") },
      { title: "FROM", cell: (row) => row.source },
      { title: "SIZE", cell: (row) => `${Math.max(1, Math.round(row.bytes / 1024 ** 2))} MiB` },
      { title: "AGE", cell: (row) => age(row.createdAt, Date.now()) },
      { title: "POOLS", cell: (row) => row.pools.join(",") },
    ],
    rows,
    { paintTitle: (text) => out("dim", text) },
  );
}

function readTemplate(raw: unknown): Template {
  const value = isObject(raw) ? raw : {};
  const current = isObject(value["current"]) ? value["current"] : {};
  return {
    name: String(value["name"] ?? ""),
    version: Number(value["current_version"] ?? 0),
    isMemory: current["memory"] === true,
    memoryState: String(current["memory_state"] ?? ""),
    source: `${String(current["source_sprite"] ?? "")}@${String(current["source_checkpoint"] ?? "")}`,
    bytes: Number(current["bytes"] ?? 0),
    versions: Array.isArray(value["versions"]) ? value["versions"].length : 0,
    pools: Array.isArray(value["pools"]) ? value["pools"].map(String) : [],
    createdAt: typeof current["created_at"] === "string" ? current["created_at"] : undefined,
    raw,
  };
}

function templatePath(name: string): string {
  return `/v1/templates/${encodeURIComponent(name)}`;
}
