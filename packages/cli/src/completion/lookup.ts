/**
 * Names that only the server knows, for completion: from a short memory on disk, else from one
 * quick call.
 *
 * Invariants: it never takes longer than `LOOKUP_MS` by much and never fails: what cannot be had
 * is not offered; nothing but names and short descriptions is remembered, readable by the user alone.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { callApi } from "../api/http.ts";
import type { GlobalFlags } from "../args/command-line.ts";
import type { WordKind } from "../commands/command.ts";
import { listAccounts, loadAccounts } from "../settings/accounts.ts";
import { readEnvironment } from "../settings/environment.ts";
import { isObject } from "../settings/files.ts";
import { loadServer, loadTarget } from "../settings/load.ts";
import type { Server } from "../settings/target.ts";
import type { Candidate } from "./plan.ts";

/** Deadline of the call, ms. */
const LOOKUP_MS = 1000;
/** How long an answer is used again, ms: long enough for one line to be typed. */
const FRESH_MS = 5000;
/** How old an answer may be that stands in for a server that does not answer, ms. */
const STALE_MS = 86_400_000;
/** Most names offered. */
const NAMES_MAX = 500;
/** Longest description, characters. */
const ABOUT_MAX = 60;

/** Where names are remembered between two presses of Tab. */
export interface LookupPlace {
  cacheDir: string;
  nowMs: number;
}

/** Things of `kind` for the server and sprite that `flags` mean. Throws when there is no token or no sprite. */
export async function lookUp(kind: WordKind, flags: GlobalFlags, place: LookupPlace): Promise<Candidate[]> {
  switch (kind) {
    case "organization":
      return organizations();
    case "sprite":
      return await remembered(place, loadServer(flags), "/v1/sprites", spriteCandidates);
    case "session": {
      const { server, sprite } = loadTarget(flags);
      return await remembered(place, server, `/v1/sprites/${encodeURIComponent(sprite)}/exec`, sessionCandidates);
    }
    case "job": {
      const { server, sprite } = loadTarget(flags);
      return await remembered(place, server, `/v1/sprites/${encodeURIComponent(sprite)}/jobs`, jobCandidates);
    }
    case "shell":
      return ["bash", "zsh", "fish"].map((value) => ({ value, about: "" }));
    case "command":
    case "file":
    case "text":
      return []; // known elsewhere or not at all
  }
}

function organizations(): Candidate[] {
  const accounts = listAccounts(loadAccounts(readEnvironment().settingsDir));
  return accounts.map(({ org, apiUrl }) => ({ value: org, about: apiUrl }));
}

function spriteCandidates(answer: unknown): Candidate[] {
  return rows(answer, "sprites").map((row) => candidate(row["name"], row["status"]));
}

function sessionCandidates(answer: unknown): Candidate[] {
  return rows(answer, "sessions").map((row) => candidate(row["id"], row["command"]));
}

function jobCandidates(answer: unknown): Candidate[] {
  return rows(answer, "jobs").map((row) => {
    const command = Array.isArray(row["cmd"]) ? row["cmd"].join(" ") : row["command"];
    return candidate(row["id"], `${textOf(row["state"])} ${textOf(command)}`.trim());
  });
}

function rows(answer: unknown, field: string): Record<string, unknown>[] {
  const list = isObject(answer) ? answer[field] : undefined;
  return Array.isArray(list) ? list.filter(isObject).slice(0, NAMES_MAX) : [];
}

function candidate(value: unknown, about: unknown): Candidate {
  return { value: textOf(value), about: textOf(about).slice(0, ABOUT_MAX) };
}

function textOf(value: unknown): string {
  return typeof value === "string" || typeof value === "number" ? String(value) : "";
}

/** All that `path` lists, page by page as far as the deadline lets it. */
async function pages(server: Server, path: string, read: (answer: unknown) => Candidate[]): Promise<Candidate[]> {
  const signal = AbortSignal.timeout(LOOKUP_MS);
  const candidates: Candidate[] = [];
  for (let query = ""; ;) {
    const answer = await callApi(server, { method: "GET", path: `${path}${query}`, timeoutMs: LOOKUP_MS, signal });
    candidates.push(...read(answer));
    const next = isObject(answer) && answer["has_more"] === true ? textOf(answer["next_continuation_token"]) : "";
    if (next === "" || candidates.length >= NAMES_MAX) return candidates;
    query = `?continuation_token=${encodeURIComponent(next)}`;
  }
}

async function remembered(place: LookupPlace, server: Server, path: string, read: (answer: unknown) => Candidate[]): Promise<Candidate[]> {
  // The token decides what there is to see, so it is part of the key; only its digest is.
  const key = createHash("sha256").update(`${server.apiUrl}\n${server.token}\n${path}`).digest("hex").slice(0, 32);
  const file = join(place.cacheDir, `complete-${key}.json`);
  const before = recall(file, place.nowMs);
  if (before && before.candidates.length > 0 && before.ageMs < FRESH_MS) return before.candidates;
  try {
    const candidates = await pages(server, path, read);
    remember(file, candidates);
    return candidates;
  } catch {
    return before?.candidates ?? []; // yesterday's names are better than none
  }
}

function recall(file: string, nowMs: number): { candidates: Candidate[]; ageMs: number } | undefined {
  try {
    const ageMs = Math.max(0, nowMs - statSync(file).mtimeMs);
    if (ageMs > STALE_MS) return undefined;
    return { ageMs, candidates: JSON.parse(readFileSync(file, "utf8")) as Candidate[] };
  } catch {
    return undefined; // never asked, or damaged: asked anew
  }
}

function remember(file: string, candidates: readonly Candidate[]): void {
  const fresh = `${file}.${process.pid}`;
  try {
    mkdirSync(join(file, ".."), { recursive: true, mode: 0o700 });
    writeFileSync(fresh, JSON.stringify(candidates), { mode: 0o600 });
    renameSync(fresh, file);
  } catch {
    rmSync(fresh, { force: true }); // a full or read-only disk only makes the next Tab slower
  }
}
