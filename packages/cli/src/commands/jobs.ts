/** `sprite jobs`: commands that run in the background. */
import { deleteJob, getJob, type JobInfo, listJobs, signalJob, waitForJob } from "../api/jobs.ts";
import { decodeByteOffset, decodeDuration, decodeJobState, decodeLogStream } from "../args/decoders.ts";
import { RECONNECT_FOR_MS } from "../exec/messages.ts";
import { showLog } from "../jobs/follow-log.ts";
import { jobExitCode, jobLines, jobTable, stateText } from "../jobs/job-table.ts";
import { Persistence } from "../jobs/persist.ts";
import { CliError } from "../output/cli-error.ts";
import { err } from "../output/style.ts";
import type { Target } from "../settings/load.ts";
import type { CommandContext } from "./catalogue.ts";
import {
  completes,
  JSON_FLAG,
  newCommand,
  ORG_FLAG,
  ORG_HELP,
  RECONNECT_FLAG,
  RECONNECT_HELP,
  SPRITE_FLAG,
  SPRITE_HELP,
} from "./command.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

/** Length of one wait at the server, ms. */
const WAIT_MS = 30_000;
/** Exit code of a wait that gave up, as `timeout` has it. */
const GAVE_UP_CODE = 124;

export function build(context: CommandContext) {
  const command = newCommand("sprite jobs", "Commands in the background: they need no connection and keep their output.", [
    ["id=$(sprite exec --background -- make)", "start one"],
    ['sprite jobs logs -f "$id"', "its output, to the end"],
    ['sprite jobs wait "$id"', "ends with its exit code"],
  ]);
  command.addCommand(list(context));
  command.addCommand(get(context));
  command.addCommand(logs(context));
  command.addCommand(wait(context));
  command.addCommand(kill(context));
  command.addCommand(remove(context));
  return command;
}

function list(context: CommandContext) {
  return newCommand("list", "Show a sprite's jobs, newest first.", [
    ["sprite jobs list", "all that are kept"],
    ["sprite jobs ls --state running", "those that run"],
  ])
    .alias("ls")
    .option("--state <state>", "running, exited, signaled, timed_out or lost", decodeJobState)
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const jobs = await found(target, listJobs(target, options.state));
      const width = process.stdout.isTTY ? process.stdout.columns : undefined;
      if (options.json) printJson(jobs.map(({ raw }) => raw));
      else if (jobs.length > 0) process.stdout.write(`${jobTable(jobs, Date.now(), width).join("\n")}\n`);
      else process.stderr.write(`${err("dim", `${target.sprite} has no jobs; \`sprite exec --background -- …\` starts one.`)}\n`);
    });
}

function get(context: CommandContext) {
  const command = newCommand("get", "Show one job in full.", [["sprite jobs get 408113275530", "state, times, output, webhook"]])
    .argument("<id>", "the job")
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (id, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const job = await found(target, getJob(target, id));
      if (options.json) printJson(job.raw);
      else process.stdout.write(`${jobLines(job, Date.now()).join("\n")}\n`);
    });
  return completes(command, "job");
}

function logs(context: CommandContext) {
  const command = newCommand("logs", "Print a job's output, byte for byte.", [
    ["sprite jobs logs 408113275530", "what there is"],
    ["sprite jobs logs -f 408113275530", "and what comes, until it ends"],
    ["sprite jobs logs --stream stderr 408113275530", "errors only"],
  ])
    .argument("<id>", "the job")
    .option("-f, --follow", "go on until the job has ended")
    .option("--stream <stream>", "stdout, stderr or all (both, in their order)", decodeLogStream, "all" as const)
    .option("--offset <bytes>", "leave out that many bytes", decodeByteOffset, 0)
    .option(RECONNECT_FLAG, RECONNECT_HELP, decodeDuration)
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (id, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const { stream, offset, follow = false, reconnectFor: reconnectForMs = RECONNECT_FOR_MS } = options;
      await found(target, showLog(target, id, { stream, offset, follow, reconnectForMs }));
    });
  return completes(command, "job");
}

function wait(context: CommandContext) {
  const command = newCommand("wait", "Wait for a job's end; ends with its exit code.", [
    ["sprite jobs wait 408113275530 && deploy", "124: its time was up; 1: lost"],
    ["sprite jobs wait --timeout 10m 408113275530", "124 when it still runs then"],
  ])
    .argument("<id>", "the job")
    .option("--timeout <time>", "give up after it", decodeDuration)
    .option(JSON_FLAG, "print the job as JSON")
    .option(RECONNECT_FLAG, RECONNECT_HELP, decodeDuration)
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (id, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const { timeout, reconnectFor: reconnectForMs = RECONNECT_FOR_MS } = options;
      const job = await found(target, waitFor(target, id, { timeoutMs: timeout, reconnectForMs }));
      if (job.state === "running")
        throw new CliError(`The job ${id} still runs.`, {
          hint: "Wait on with the same command.",
          exitCode: GAVE_UP_CODE,
          code: "timeout",
        });
      if (options.json) printJson(job.raw);
      else if (job.reason !== undefined) process.stderr.write(`sprite: job ${id} ${stateText(job)}: ${job.reason}\n`);
      context.exitCode = jobExitCode(job);
    });
  return completes(command, "job");
}

async function waitFor(target: Target, id: string, options: { timeoutMs: number | undefined; reconnectForMs: number }): Promise<JobInfo> {
  const untilMs = performance.now() + (options.timeoutMs ?? Infinity);
  const persistence = new Persistence(target.sprite, options.reconnectForMs);
  for (;;) {
    try {
      const job = await waitForJob(target, id, Math.round(Math.max(0, Math.min(WAIT_MS, untilMs - performance.now()))));
      persistence.connected();
      if (job.state !== "running" || performance.now() >= untilMs) return job;
    } catch (error) {
      await persistence.failed(error);
    }
  }
}

function kill(context: CommandContext) {
  const command = newCommand("kill", "Send a signal to a job; TERM when none is named.", [
    ["sprite jobs kill 408113275530", "end it in order"],
    ["sprite jobs kill --signal KILL 408113275530", "end it by force"],
  ])
    .argument("<id>", "the job")
    .option("--signal <name>", "the signal", "TERM")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (id, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      await found(target, signalJob(target, id, options.signal));
      process.stdout.write(`sent ${options.signal.toUpperCase().replace(/^SIG/, "")} to ${id}\n`);
    });
  return completes(command, "job");
}

function remove(context: CommandContext) {
  const command = newCommand("delete", "Delete jobs with their output; one that runs is killed.", [
    ["sprite jobs delete 408113275530", "one"],
  ])
    .alias("rm")
    .argument("<id...>", "the jobs")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (ids, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      for (const id of ids) {
        await found(target, deleteJob(target, id));
        process.stdout.write(`deleted ${id}\n`);
      }
    });
  return completes(command, "job");
}

function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}
