/** Sprites, their machines, and what runs in them (METR-5). */
import type { SessionOwner } from "../exec/index.ts";
import type { MachineEvent, SpriteState, WakeKind } from "../sprite/index.ts";
import type { Instruments } from "./instruments.ts";

/** Something that tells of what happens. */
export interface Told<Event> {
  add(listener: (event: Event) => void): unknown;
}

export interface SpriteSource {
  states(): { state: SpriteState["kind"]; isSpare: boolean }[];
  readonly machineEvents: Told<MachineEvent>;
}

export interface SessionSource {
  /** Sessions that have not ended. */
  open(): readonly { owner: SessionOwner }[];
}

export interface JobSource {
  readonly openCount: number;
  readonly ends: Told<{ state: string }>;
}

const WAKES: readonly WakeKind[] = ["paused", "hibernated", "cold"];
const OWNERS: readonly SessionOwner[] = ["session", "job", "proxy"];
const JOB_ENDS = ["exited", "signaled", "timed_out", "lost"];

/** Begins to count what happens. Returns what takes the levels of now over. */
export function spriteMetrics(instruments: Instruments, sprites: SpriteSource): () => void {
  const owned = instruments.gauge("sprited_sprites", "Sprites that somebody owns, by the state of their machine", ["state"]);
  const spares = instruments.gauge("sprited_spares", "Spares of pools, by the state of their machine", ["state"]);
  const wakes = instruments.histogram("sprited_wake_seconds", "Wakes that ended well, by what the sprite came back from", ["from"]);
  const failures = instruments.counter("sprited_wake_failures_total", "Wakes that failed", ["from"]);
  const sleeps = instruments.counter("sprited_sleeps_total", "Sleeps, by their depth", ["depth"]);
  const lost = instruments.counter("sprited_memories_lost_total", "Memories of sprites that were given up although nobody asked", []);
  for (const kind of WAKES) {
    wakes.zero({ from: kind });
    failures.inc({ from: kind }, 0);
    sleeps.inc({ depth: kind }, 0);
  }
  sprites.machineEvents.add((event) => {
    if (event.kind === "woken") wakes.observe({ from: event.wake }, event.durationMs / 1000);
    else if (event.kind === "wake_failed") failures.inc({ from: event.wake });
    else if (event.kind === "slept") sleeps.inc({ depth: event.depth });
    else lost.inc();
  });
  return () => {
    owned.reset();
    spares.reset();
    for (const { state, isSpare } of sprites.states()) (isSpare ? spares : owned).inc({ state });
  };
}

/** The same for commands and jobs. */
export function workMetrics(instruments: Instruments, sources: { exec: SessionSource; jobs: JobSource }): () => void {
  const { exec, jobs } = sources;
  const sessions = instruments.gauge("sprited_sessions_open", "Sessions that have not ended, by their owner", ["owner"]);
  const open = instruments.gauge("sprited_jobs_open", "Jobs that have not ended", []);
  const ended = instruments.counter("sprited_jobs_ended_total", "Jobs that ended, by how", ["state"]);
  for (const state of JOB_ENDS) ended.inc({ state }, 0);
  jobs.ends.add(({ state }) => ended.inc({ state }));
  return () => {
    for (const owner of OWNERS) sessions.set({ owner }, 0);
    for (const { owner } of exec.open()) sessions.inc({ owner });
    open.set(jobs.openCount);
  };
}
