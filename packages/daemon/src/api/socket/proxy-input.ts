/**
 * From a client's messages to the peer of its connection: in order, and no more is read of the
 * client than the peer takes.
 */
import { ignore } from "@sprited/base";
import type WebSocket from "ws";
import type { Attachment } from "../../exec/exec.ts";

/**
 * Bytes held back before the socket is paused. Clients of resumable connections never send so much
 * at once (PROXY-7): a paused socket would not bring their acknowledgements either.
 */
const HELD_BYTES_MAX = 2 * 1024 * 1024;

export class ProxyInput {
  readonly #socket: WebSocket;
  #attachment: Attachment | undefined;
  #waiting: (Uint8Array | "end")[] = [];
  #heldBytes = 0;
  #writing: Promise<void> | undefined;
  #isStopped = false;

  constructor(socket: WebSocket) {
    this.#socket = socket;
  }

  /** From now on bytes go to the peer; what came before goes first. */
  open(attachment: Attachment): void {
    this.#attachment = attachment;
    this.#start();
  }

  take(data: Uint8Array): void {
    if (this.#isStopped) return;
    this.#waiting.push(data);
    this.#heldBytes += data.length;
    if (this.#heldBytes > HELD_BYTES_MAX) this.#socket.pause();
    this.#start();
  }

  /** The client sends no more. */
  end(): void {
    this.#waiting.push("end");
    this.#start();
  }

  /** Drops what was not handed over yet: the client sends it again. */
  stop(): void {
    this.#isStopped = true;
    this.#waiting = [];
  }

  /** Resolves when everything was handed over. */
  async finish(): Promise<void> {
    await this.#writing;
  }

  #start(): void {
    if (!this.#attachment || this.#writing) return;
    this.#writing = this.#write(this.#attachment)
      .catch(ignore("the connection has ended, and its end says why"))
      .finally(() => {
        this.#writing = undefined;
        if (this.#waiting.length > 0) this.#start();
      });
  }

  async #write(attachment: Attachment): Promise<void> {
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      if (next === "end") {
        attachment.endInput();
        continue;
      }
      await attachment.write(next);
      this.#heldBytes -= next.length;
      if (this.#heldBytes <= HELD_BYTES_MAX && this.#socket.isPaused) this.#socket.resume();
    }
  }
}
