/** Jobs as people read them. Pure but for colours. */
import { exitByte } from "@sprited/protocol/stream";
import type { JobInfo } from "../api/jobs.ts";
import { age } from "../output/age.ts";
import { bytes } from "../output/bytes.ts";
import { out } from "../output/style.ts";
import { renderTable } from "../output/table.ts";
import { printable } from "../output/text-width.ts";

type Format = Parameters<typeof out>[0];

/** Exit code for a job that was ended because its time was up, as `timeout` has it. */
const TIMED_OUT_CODE = 124;
const NAME_WIDTH = 10;

/** Lines of the table of jobs. */
export function jobTable(jobs: readonly JobInfo[], nowMs: number, width: number | undefined): string[] {
  return renderTable<JobInfo>(
    [
      { title: "ID", cell: ({ id }) => id, paint: (text) => out("bold", text) },
      { title: "STATE", cell: stateText, paint: (text, job) => out(stateFormat(job), text) },
      { title: "AGE", cell: ({ createdAt }) => age(createdAt, nowMs) },
      { title: "TOOK", cell: (job) => tookText(job, nowMs) },
      { title: "OUTPUT", cell: ({ stdoutBytes, stderrBytes }) => bytes(stdoutBytes + stderrBytes) },
      { title: "COMMAND", cell: commandText },
    ],
    jobs,
    { ...(width === undefined ? {} : { width }), paintTitle: (text) => out("dim", text) },
  );
}

/** One job in full. */
export function jobLines(job: JobInfo, nowMs: number): string[] {
  const since = (time: string | undefined): string => (time === undefined ? "" : `${time} (${age(time, nowMs)} ago)`);
  const facts: [name: string, value: string][] = [
    ["id", job.id],
    ["state", stateText(job)],
    ["reason", job.reason ?? ""],
    ["command", commandText(job)],
    ["directory", typeof job.raw["dir"] === "string" ? job.raw["dir"] : ""],
    ["started", since(job.startedAt)],
    ["ended", since(job.endedAt)],
    ["took", tookText(job, nowMs)],
    ["output", `${bytes(job.stdoutBytes)} on stdout, ${bytes(job.stderrBytes)} on stderr`],
    ["webhook", job.webhook ? webhookText(job.webhook) : ""],
  ];
  return facts
    .filter(([, value]) => value !== "")
    .map(([name, value]) => `${out("dim", name.padEnd(NAME_WIDTH))} ${name === "state" ? out(stateFormat(job), value) : printable(value)}`);
}

/** `running`, `exited 0`, `signaled TERM`. */
export function stateText(job: JobInfo): string {
  if (job.state === "exited") return `exited ${job.exitCode ?? ""}`.trimEnd();
  if (job.state === "signaled") return `signaled ${job.signal ?? ""}`.trimEnd();
  return job.state.replace("_", " ");
}

/** The exit code that stands for an ended job; 1 for one whose outcome is not known. */
export function jobExitCode(job: JobInfo): number {
  if (job.state === "timed_out") return TIMED_OUT_CODE;
  if (job.state !== "exited" && job.state !== "signaled") return 1;
  return exitByte({ code: job.exitCode ?? null, signal: job.signal ?? null });
}

function stateFormat(job: JobInfo): Format {
  if (job.state === "running") return "cyan";
  if (job.state === "exited" && job.exitCode === 0) return "green";
  return job.state === "exited" ? "yellow" : "red";
}

function commandText(job: JobInfo): string {
  return job.cmd.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");
}

function tookText(job: JobInfo, nowMs: number): string {
  if (job.startedAt === undefined) return "";
  const ms = (job.endedAt === undefined ? nowMs : Date.parse(job.endedAt)) - Date.parse(job.startedAt);
  if (!(ms >= 0)) return "";
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)}s`;
  const seconds = Math.round(ms / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours > 0 ? `${hours}h${String(minutes).padStart(2, "0")}m` : `${minutes}m${String(seconds % 60).padStart(2, "0")}s`;
}

function webhookText(webhook: NonNullable<JobInfo["webhook"]>): string {
  const attempts = webhook.attempts === 0 ? "" : ` after ${webhook.attempts} attempt${webhook.attempts === 1 ? "" : "s"}`;
  return `${webhook.state}${attempts}${webhook.lastError === undefined ? "" : `: ${webhook.lastError}`}`;
}
