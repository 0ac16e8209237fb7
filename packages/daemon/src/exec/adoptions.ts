/**
 * Sessions that came with a memory put in place (EXEC-22): a fork, a sprite of a template or a
 * restore begins with commands running that no record of this sprite names. At the life's first
 * wake they get records, and from then on they are sessions like any other.
 *
 * Invariants: a life is adopted once; records of all its sessions and the note that it was looked
 * at are stored together, before anything is followed or deleted in the guest.
 */
import { ignore, type Logger, sleep } from "@sprited/base";
import type { GuestSession } from "@sprited/protocol/guest";
import { type GuestLife, isPlacedLife } from "../sprite/index.ts";
import type { SessionRecord, SessionRecords } from "../store/index.ts";
import type { SessionFacts } from "./session.ts";
import { factsOf, isKept } from "./session-facts.ts";

/** Sessions of one guest that are adopted; what it lists beyond is ended. */
const ADOPTED_MAX = 1_000;
/** Pause before an awake guest that did not answer is asked again, ms. */
const RETRY_MS = 2_000;
/** What a terminal is taken for whose agent does not tell its size. */
const UNKNOWN_SIZE = { cols: 80, rows: 24 };

/** One session of a guest that is followed from now on. */
export interface Adopted {
  facts: SessionFacts;
  record: SessionRecord;
}

export interface AdoptionOptions {
  records: SessionRecords;
  newId(): string;
  /** Whether a session, by its id in the life's guest, is followed already. */
  isFollowed(spriteId: string, life: GuestLife, guestId: string): boolean;
  follow(adopted: Adopted, life: GuestLife): void;
  logger: Logger;
}

export class Adoptions {
  readonly #options: AdoptionOptions;
  readonly #underway = new Map<string, { life: GuestLife; done: Promise<void> }>();
  readonly #closed = new AbortController();

  constructor(options: AdoptionOptions) {
    this.#options = options;
  }

  /** Whether the life's guest may hold sessions that have no record yet. */
  isDue(spriteId: string, life: GuestLife): boolean {
    return isPlacedLife(life) && this.#options.records.adoptedLife(spriteId) !== life.id;
  }

  /** Adopts what there is as soon as the sprite is awake; resolves then, or at the life's end. Never rejects, wakes nothing. */
  async adopt(spriteId: string, life: GuestLife): Promise<void> {
    const running = this.#underway.get(spriteId);
    if (running?.life === life) return await running.done;
    if (!this.isDue(spriteId, life)) return;
    const done = this.#run(spriteId, life).finally(() => {
      if (this.#underway.get(spriteId)?.life === life) this.#underway.delete(spriteId);
    });
    this.#underway.set(spriteId, { life, done });
    await done;
  }

  close(): void {
    this.#closed.abort();
  }

  async #run(spriteId: string, life: GuestLife): Promise<void> {
    const over = new AbortController();
    void life.ended.then(() => over.abort());
    const signal = AbortSignal.any([over.signal, this.#closed.signal]);
    while (!signal.aborted) {
      try {
        await this.#adoptNow(spriteId, life, signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        this.#options.logger.warn({ event: "exec.adopt", spriteId, err: error }, "the sessions of a placed memory are not known yet");
        await sleep(RETRY_MS, { signal }).catch(ignore("looked at by the loop"));
      }
    }
  }

  async #adoptNow(spriteId: string, life: GuestLife, signal: AbortSignal): Promise<void> {
    const { records, newId, isFollowed, follow, logger } = this.#options;
    const link = await life.link({ signal });
    const found = (await link.listSessions({ signal })).filter(({ id }) => !isFollowed(spriteId, life, id));
    if (signal.aborted) return;
    const { adopted, ended } = planAdoption(found, {
      spriteId,
      lifeId: life.id,
      newId,
      find: (id) => records.find(spriteId, id),
      nowMs: Date.now(),
    });
    records.adopt(
      spriteId,
      life.id,
      adopted.map(({ record }) => record),
    );
    for (const one of adopted) follow(one, life);
    logger.info({ event: "exec.adopt", spriteId, life: life.id, adopted: adopted.length, ended: ended.length }, "sessions adopted");
    // What is left after a broken link is ended at the next start of the daemon.
    for (const id of ended) await link.deleteSession(id).catch(ignore("the next start does it"));
  }
}

export interface AdoptionPlace {
  spriteId: string;
  lifeId: string;
  newId(): string;
  /** The sprite's record with this id. */
  find(id: string): SessionRecord | undefined;
  nowMs: number;
}

/** What becomes of a guest's sessions that nobody follows: which are adopted, and which are ended there. */
export function planAdoption(found: readonly GuestSession[], place: AdoptionPlace): { adopted: Adopted[]; ended: string[] } {
  const adopted: Adopted[] = [];
  const ended: string[] = [];
  for (const guest of found) {
    const known = place.find(guest.id);
    // The peer of a connection is a socket of another sprite; what is on record in this life has ended here.
    if (guest.connect || known?.lifeId === place.lifeId || adopted.length >= ADOPTED_MAX) ended.push(guest.id);
    else adopted.push(adoptionOf(guest, { ...place, id: known ? place.newId() : guest.id }));
  }
  return { adopted, ended };
}

function adoptionOf(guest: GuestSession, { spriteId, id, lifeId, nowMs }: AdoptionPlace & { id: string }): Adopted {
  const tty = guest.tty ? (guest.size ?? UNKNOWN_SIZE) : undefined;
  const work = { kind: "command" as const, argv: guest.argv, env: {}, dir: undefined, tty, stdin: true };
  const startedAtMs = Math.trunc(Math.min(nowMs, Math.max(0, guest.started_at_ms)));
  const facts = factsOf(spriteId, { work, owner: "session", runAfterDisconnectMs: undefined }, { id, nowMs: startedAtMs });
  if (!isKept(facts)) throw new Error("an adopted session is kept");
  if (id !== guest.id) facts.guestId = guest.id;
  const logStart = guest.kept_from ?? { stdout: guest.stdout_bytes, stderr: guest.stderr_bytes };
  return { facts, record: { ...facts, argv: [...facts.argv], lifeId, logStart, end: undefined } };
}
