/**
 * The talk with one QEMU process: a control session that is opened when needed and anew when it
 * broke, and what QEMU announced on it. Never keeps the program running.
 */
import { DeadlineError, ignore, withDeadline } from "@sprited/base";
import { z } from "zod";
import { VmmError } from "../errors.ts";
import { connectSocket, type QmpCallOptions, type QmpEvent, QmpSession } from "./qmp.ts";

/** Longest wait for a connection to a process that already ran, ms. */
const RECONNECT_TIMEOUT_MS = 10_000;

/** What QEMU says of a machine that its guest has ended. */
const endedStatus = z.object({ status: z.enum(["shutdown", "guest-panicked", "internal-error"]) });

/** Why the guest's machine ended, as QEMU announced it. */
export type AnnouncedEnd = "guest" | "host";

export class QemuControl {
  /** Resolves when the guest has ended its machine. Never rejects. */
  readonly guestEnded: Promise<void>;
  /** Set when QEMU announced that the machine ends; what was announced first is why. */
  announcedEnd: AnnouncedEnd | undefined;
  #onGuestEnded = (): void => {};
  readonly #socketPath: string;
  readonly #onLost: () => void;
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #closed = new AbortController();
  #opening: Promise<QmpSession> | undefined;
  #session: QmpSession | undefined;

  /** `onLost` is called when a session breaks: the process may be about to end. */
  constructor(socketPath: string, onLost: () => void) {
    this.#socketPath = socketPath;
    this.#onLost = onLost;
    this.guestEnded = new Promise((resolve) => {
      this.#onGuestEnded = resolve;
    });
  }

  /** The open session, or a new one as soon as the process accepts it. */
  async open(options: { timeoutMs?: number; signal?: AbortSignal | undefined } = {}): Promise<QmpSession> {
    if (this.#session?.isOpen) return this.#session;
    this.#closed.signal.throwIfAborted();
    this.#opening ??= this.#connect(options).finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  /** Runs one command; see `QmpSession.execute`. */
  async execute(command: string, args?: Record<string, unknown>, options?: QmpCallOptions): Promise<unknown> {
    return (await this.open({ signal: options?.signal })).execute(command, args, options);
  }

  /** Resolves with the first event from now on that `match` makes something of. Rejects with the signal's reason. */
  async next<T>(match: (event: QmpEvent) => T | undefined, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    return new Promise<T>((resolve, reject) => {
      const done = (): void => {
        this.#listeners.delete(listener);
        signal.removeEventListener("abort", onAbort);
      };
      const onAbort = (): void => {
        done();
        reject(signal.reason as Error);
      };
      const listener = (event: QmpEvent): void => {
        const value = match(event);
        if (value === undefined) return;
        done();
        resolve(value);
      };
      this.#listeners.add(listener);
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** Resolves when no session is open any more: everything QEMU announced was read. */
  async drained(): Promise<void> {
    await this.#opening?.catch(ignore("then there is no session"));
    await this.#session?.closed;
  }

  close(): void {
    this.#closed.abort(new VmmError("vmm_control", "this program let go of the VM"));
    this.#session?.close();
  }

  async #connect(options: { timeoutMs?: number; signal?: AbortSignal | undefined }): Promise<QmpSession> {
    const signal = options.signal ? AbortSignal.any([options.signal, this.#closed.signal]) : this.#closed.signal;
    const timeoutMs = options.timeoutMs ?? RECONNECT_TIMEOUT_MS;
    try {
      const socket = await withDeadline("QEMU's control socket", { timeoutMs, signal }, (deadline) =>
        connectSocket(this.#socketPath, deadline),
      );
      socket.unref();
      const session = new QmpSession(socket, { onEvent: (event) => this.#receive(event) });
      this.#session = session;
      void session.closed.then(() => this.#onLost());
      return session;
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
      throw new VmmError("vmm_timeout", "QEMU does not open its control socket", { cause: error });
    }
  }

  /** Asks whether the guest ended its machine while nobody listened. */
  async noticeGuestEnd(): Promise<void> {
    const parsed = endedStatus.safeParse(await this.execute("query-status"));
    if (parsed.success) this.#announce("guest");
  }

  #announce(end: AnnouncedEnd): void {
    this.announcedEnd ??= end;
    if (this.announcedEnd === "guest") this.#onGuestEnded();
  }

  #receive(event: QmpEvent): void {
    if (event.event === "SHUTDOWN") this.#announce(event.data["guest"] === true ? "guest" : "host");
    // A listener that is done removes itself; that does not disturb going through a set.
    for (const listener of this.#listeners) listener(event);
  }
}
