/**
 * What happens on the boot port (BOOT-2..7).
 *
 * ```
 * idle ──bootstrap──▶ bootstrapped ──bootstrap (same or new incarnation)──▶ bootstrapped
 *   └──clock or RNG not set, an inherited connection left──▶ failed: no key, so no work
 * ```
 */
import type { Duplex } from "node:stream";
import { type Bootstrap, type BootRequest, GUEST_GENERATION } from "@sprited/protocol/guest";
import type { LinkServer } from "../link/link-server.ts";
import type { Machine } from "../sys/machine.ts";
import { BootPort } from "./boot-port.ts";
import type { SerialLink } from "./serial-link.ts";

const KEY_BYTES = 32;

export interface BootOptions {
  port: Duplex;
  agentVersion: string;
  machine: Machine;
  links: LinkServer;
  serialLink: SerialLink | undefined;
  /** Called while the user's processes still rest; no work begins when it throws. */
  dropInherited: (bootstrap: Bootstrap) => void;
  /** Called after `bootstrapped` was written. */
  onBootstrap: (bootstrap: Bootstrap) => void;
}

export class BootProtocol {
  readonly #options: BootOptions;
  readonly #port: BootPort;
  #isBootstrapped = false;
  /** Whether everything is prepared: a probe may have waited in the port since before the agent began. */
  #isIdle = false;
  #isAnnouncing = false;

  constructor(options: BootOptions) {
    this.#options = options;
    this.#port = new BootPort(options.port, (request) => this.#handle(request));
  }

  /** Tells the host that this VM may be snapshot now; probes are answered from here on. */
  announceIdle(): void {
    this.#isIdle = true;
    this.#answerIdle();
  }

  #answerIdle(): void {
    // Probes pile up while the guest boots; one answer is enough for all that were waiting.
    if (!this.#isIdle || this.#isBootstrapped || this.#isAnnouncing) return;
    this.#isAnnouncing = true;
    this.#port.send({ type: "idle", generation: GUEST_GENERATION, agent_version: this.#options.agentVersion }, () => {
      this.#isAnnouncing = false;
    });
  }

  #handle(request: BootRequest): void {
    switch (request.type) {
      case "probe":
        this.#answerIdle();
        return;
      case "link":
        this.#options.serialLink?.begin(request.nonce);
        return;
      case "bootstrap":
        this.#bootstrap(request);
    }
  }

  #bootstrap(request: Bootstrap): void {
    const { machine, links, dropInherited } = this.#options;
    let step = "generation";
    try {
      if (request.generation !== GUEST_GENERATION)
        throw new Error(`this agent speaks generation ${GUEST_GENERATION}, not ${request.generation}`);
      step = "key";
      const key = Buffer.from(request.key, "base64");
      if (key.length !== KEY_BYTES) throw new Error(`the key must have ${KEY_BYTES} bytes`);
      step = "clock";
      machine.setClock(request.time_ms);
      step = "entropy";
      machine.reseed(Buffer.from(request.entropy, "base64"));
      step = "connections";
      dropInherited(request);
      links.setKey({ incarnation: request.incarnation, key });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#port.send({ type: "failed", incarnation: request.incarnation, step, message: message.slice(0, 1000) });
      return;
    }
    this.#isBootstrapped = true;
    this.#port.send({ type: "bootstrapped", incarnation: request.incarnation });
    this.#options.onBootstrap(request);
  }
}
