/** `sprite pool`: sprites of a template that are kept ready, and taking one. */
import { Option } from "@commander-js/extra-typings";
import { callApi } from "../api/http.ts";
import { readSprite } from "../api/sprites.ts";
import { decodeEnv, decodeRepeated, envRecord } from "../args/decoders.ts";
import { CliError } from "../output/cli-error.ts";
import { confirm } from "../output/prompt.ts";
import { err } from "../output/style.ts";
import { isObject } from "../settings/files.ts";
import type { Server } from "../settings/target.ts";
import type { CommandContext } from "./catalogue.ts";
import { JSON_FLAG, newCommand, ORG_FLAG, ORG_HELP } from "./command.ts";
import { type Pool, poolTable, readPool, watchLines } from "./pool-table.ts";
import { poolWords } from "./pool-words.ts";
import { loadVerifiedServer } from "./server.ts";

/** A patient claim waits a minute on the server, ms. */
const CLAIM_TIMEOUT_MS = 90_000;
/** Spares that are being made are called off, ms. */
const DELETE_TIMEOUT_MS = 180_000;

export function build(context: CommandContext) {
  const command = newCommand("sprite pool", "Sprites of a template that are kept ready to be taken.", [
    ["sprite pool create web --template web --min 3", "keep three ready"],
    ["sprite pool claim web --name agent-1", "take one, for good"],
    ["sprite pool list --watch", "see it fill"],
  ]);
  for (const part of [create, list, get, update, claim, remove]) command.addCommand(part(context));
  return command;
}

/** Flags of create and update. */
const restOption = () => new Option("--spare <state>", "how spares wait").choices(["hibernated", "paused"] as const);

function create(context: CommandContext) {
  return newCommand("create", "Make a pool; it begins to fill at once.", [
    ["sprite pool create web --template web --min 3", "three ready"],
    ["sprite pool create ci --template ci -- npm ci", "after `npm ci` in each"],
  ])
    .argument("<name>", "lower-case letters, digits and hyphens")
    .argument("[setup...]", "command run in each spare before it counts as ready")
    .requiredOption("--template <name>", "what spares are made from")
    .option("--min <count>", "spares kept ready (default: 1)", decodeNumber)
    .option("--max <count>", "most spares at once (default: min + 4)", decodeNumber)
    .addOption(restOption())
    .option("--max-age <seconds>", "replace spares that waited longer", decodeNumber)
    .option("--refill-per-minute <count>", "most spares begun in a minute", decodeNumber)
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (name, setup, options) => {
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      const body = { name, template: options.template, ...settingsOf(options), ...(setup.length > 0 ? { setup } : {}) };
      show(await callApi(server, { method: "POST", path: "/v1/pools", body }), options.json);
    });
}

function list(context: CommandContext) {
  return newCommand("list", "Show the pools of the organization.", [["sprite pool ls --watch", "live, until Ctrl-C"]])
    .alias("ls")
    .option("-w, --watch", "keep showing what changes until Ctrl-C")
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (options) => {
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      if (options.watch) return await watchLines(async () => poolTable(await loadPools(server)));
      const pools = await loadPools(server);
      if (options.json)
        process.stdout.write(
          `${JSON.stringify(
            pools.map((pool) => pool.raw),
            undefined,
            2,
          )}\n`,
        );
      else if (pools.length === 0) process.stderr.write(`${err("dim", "There are no pools yet; `sprite pool create` makes one.")}\n`);
      else process.stdout.write(`${poolTable(pools).join("\n")}\n`);
    });
}

function get(context: CommandContext) {
  return newCommand("get", "Show one pool, and how its claims and spares went.", [["sprite pool get web --json", "for programs"]])
    .argument("<name>", "the pool")
    .option("-w, --watch", "keep showing what changes until Ctrl-C")
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (name, options) => {
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      const load = async (): Promise<unknown> => await callApi(server, { method: "GET", path: poolPath(name) });
      if (options.watch) return await watchLines(async () => poolLines(await load()));
      show(await load(), options.json, poolLines);
    });
}

/** A pool with what it counted and measured. */
function poolLines(answer: unknown): string[] {
  const words = poolWords(answer, Date.now());
  return [...poolTable([readPool(answer)]), ...(words.length === 0 ? [] : ["", ...words])];
}

function update(context: CommandContext) {
  return newCommand("update", "Change a pool; what is not named stays.", [["sprite pool update web --min 10", "keep ten ready"]])
    .argument("<name>", "the pool")
    .option("--template <name>", "another template; the pool rolls to it")
    .option("--min <count>", "spares kept ready", decodeNumber)
    .option("--max <count>", "most spares at once", decodeNumber)
    .addOption(restOption())
    .option("--max-age <seconds>", "replace spares that waited longer", decodeNumber)
    .option("--refill-per-minute <count>", "most spares begun in a minute", decodeNumber)
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (name, options) => {
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      const body = { ...(options.template === undefined ? {} : { template: options.template }), ...settingsOf(options) };
      if (Object.keys(body).length === 0)
        throw new CliError("Nothing to change.", { hint: "Name a setting, for example --min.", code: "usage" });
      show(await callApi(server, { method: "PUT", path: poolPath(name), body }), options.json);
    });
}

function claim(context: CommandContext) {
  return newCommand("claim", "Take a ready sprite, for good. Prints its name.", [
    ["sprite pool claim web", "a name is made"],
    ["sprite pool claim web --name agent-1 --wait", "wait when none is ready"],
    ["sprite pool claim web --key job-17", "asked again: the same one"],
  ])
    .argument("<pool>", "the pool")
    .option("--name <name>", "name of the sprite")
    .option("--label <label>", "a label; repeatable", decodeRepeated)
    .option("--env <NAME=value>", "environment of its commands; repeatable", decodeEnv)
    .option("--key <text>", "idempotency key")
    .option("--wait", "wait in line, at most a minute, when none is ready")
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (pool, options) => {
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      const body = {
        ...(options.name === undefined ? {} : { name: options.name }),
        ...(options.label === undefined ? {} : { labels: options.label }),
        ...(options.env === undefined ? {} : { environment: envRecord(options.env) }),
        ...(options.key === undefined ? {} : { idempotency_key: options.key }),
        ...(options.wait === undefined ? {} : { wait_for_capacity: true }),
      };
      const answer = await callApi(server, { method: "POST", path: `${poolPath(pool)}/claim`, body, timeoutMs: CLAIM_TIMEOUT_MS });
      const sprite = readSprite(answer);
      process.stdout.write(options.json ? `${JSON.stringify(sprite.raw)}\n` : `${sprite.name}\n`);
    });
}

function remove(context: CommandContext) {
  return newCommand("delete", "Delete a pool and the spares in it. Claimed sprites stay.", [
    ["sprite pool delete web --force", "for scripts"],
  ])
    .alias("rm")
    .argument("<name>", "the pool")
    .option("--force", "do not ask")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (name, options) => {
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      if (!options.force) {
        if (!process.stdin.isTTY)
          throw new CliError(`Will not delete ${name} without being asked on a terminal.`, { hint: "Add --force.", code: "not_confirmed" });
        if (!(await confirm(`Delete the pool ${name} and its spares?`)))
          throw new CliError("Nothing was deleted.", { code: "not_confirmed" });
      }
      await callApi(server, { method: "DELETE", path: poolPath(name), timeoutMs: DELETE_TIMEOUT_MS });
      process.stdout.write(`deleted ${name}\n`);
    });
}

interface Settings {
  min?: number | undefined;
  max?: number | undefined;
  spare?: string | undefined;
  maxAge?: number | undefined;
  refillPerMinute?: number | undefined;
}

function settingsOf(options: Settings): Record<string, unknown> {
  const fields = {
    min: options.min,
    max: options.max,
    spare: options.spare,
    max_age_seconds: options.maxAge,
    refill_per_minute: options.refillPerMinute,
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

async function loadPools(server: Server): Promise<Pool[]> {
  const answer = await callApi(server, { method: "GET", path: "/v1/pools" });
  return (isObject(answer) && Array.isArray(answer["pools"]) ? answer["pools"] : []).map(readPool);
}

function show(answer: unknown, isJson: true | undefined, lines = (shown: unknown) => poolTable([readPool(shown)])): void {
  const pool = readPool(answer);
  if (isJson) process.stdout.write(`${JSON.stringify(answer, undefined, 2)}\n`);
  else process.stdout.write(`${lines(answer).join("\n")}\n`);
  if (!isJson && pool.lastError !== undefined) process.stderr.write(`${err("red", "last filling failed:")} ${pool.lastError}\n`);
}

function decodeNumber(text: string): number {
  if (!/^[0-9]{1,9}$/.test(text)) throw new CliError(`${text} is not a whole number.`, { code: "usage" });
  return Number(text);
}

function poolPath(name: string): string {
  return `/v1/pools/${encodeURIComponent(name)}`;
}
