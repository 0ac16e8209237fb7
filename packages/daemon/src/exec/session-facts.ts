/** What is remembered of a session from its request, and what the agent is asked to start. Pure. */
import type { SessionStart } from "@sprited/protocol/guest";
import type { SessionRecord } from "../store/index.ts";
import type { ExecRequest, ExecWork } from "./exec.ts";
import type { SessionFacts } from "./session.ts";

/** Longest command line and longest list of words that are remembered, characters. */
const COMMAND_LENGTH_MAX = 16 * 1024;
const ARGV_LENGTH_MAX = 64 * 1024;

export function factsOf(spriteId: string, request: ExecRequest, made: { id: string; nowMs: number }): SessionFacts {
  const { work } = request;
  const isCommand = work.kind === "command";
  return {
    id: made.id,
    spriteId,
    owner: request.owner ?? "session",
    command: isCommand ? work.argv.join(" ").slice(0, COMMAND_LENGTH_MAX) : `connect ${work.host}:${work.port}`,
    argv: isCommand ? boundedWords(work.argv) : [],
    workdir: (isCommand && work.dir) || "",
    size: isCommand ? work.tty : undefined,
    createdAtMs: made.nowMs,
    runAfterDisconnectMs: request.runAfterDisconnectMs,
  };
}

/** What the agent is asked to start. */
export function startOf(work: ExecWork): SessionStart {
  if (work.kind === "connection") return { connect: { host: work.host, port: work.port } };
  return { argv: work.argv, env: work.env, dir: work.dir ?? null, tty: work.tty ?? null, stdin: work.stdin };
}

/** Facts of a session that is remembered beyond this daemon. */
export type KeptFacts = SessionFacts & { owner: SessionRecord["owner"] };

/** Connections live no longer than the daemon: their other end is a socket of it. */
export function isKept(facts: SessionFacts): facts is KeptFacts {
  return facts.owner !== "proxy";
}

function boundedWords(argv: readonly string[]): string[] {
  let room = ARGV_LENGTH_MAX;
  return argv.flatMap((word) => {
    const kept = word.slice(0, Math.max(0, room));
    room -= word.length + 1;
    return kept.length > 0 || word.length === 0 ? [kept] : [];
  });
}

export function recordOf(facts: KeptFacts, lifeId: string): SessionRecord {
  return { ...facts, argv: [...facts.argv], lifeId, end: undefined };
}
