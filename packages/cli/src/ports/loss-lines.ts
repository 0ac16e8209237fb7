/** One line when the connections of a command are lost and one when they are back, however many they are. */
import { backMessage } from "../exec/messages.ts";

export class LossLines {
  readonly #sprite: string;
  readonly #say: (line: string) => void;
  #lost = 0;
  #sinceMs = 0;

  constructor(sprite: string, say: (line: string) => void) {
    this.#sprite = sprite;
    this.#say = say;
  }

  lost(): void {
    this.#lost += 1;
    if (this.#lost > 1) return;
    this.#sinceMs = performance.now();
    this.#say(`sprite: connection to ${this.#sprite} lost; trying again, Ctrl-C leaves`);
  }

  back(): void {
    this.#lost = Math.max(0, this.#lost - 1);
    if (this.#lost === 0) this.#say(backMessage(this.#sprite, performance.now() - this.#sinceMs));
  }
}
