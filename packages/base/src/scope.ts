import { ignore } from "./ignore.ts";

/** How long one clean-up step may take before the next one runs. */
const STEP_TIMEOUT_MS = 10_000;

/** All steps of a scope that failed while it closed. */
export class ScopeError extends AggregateError {
  override readonly name = "ScopeError";
}

interface Step {
  readonly what: string;
  readonly undo: () => Promise<void> | void;
}

/**
 * Everything acquired for one purpose, given back in reverse order.
 *
 * Invariants: steps run LIFO, each once, each with a deadline; a failing step does not stop the
 * others; a step added after the scope closed runs at once; `move()` hands the steps to a new
 * owner so that success keeps what failure would have released.
 */
export class Scope implements AsyncDisposable {
  readonly what: string;
  #steps: Step[] = [];
  #closed = false;

  constructor(what: string) {
    this.what = what;
  }

  /** Registers how to give something back. */
  defer(what: string, undo: () => Promise<void> | void): void {
    if (this.#closed) {
      void runStep({ what, undo }).catch(ignore("the scope that would report it has closed"));
      return;
    }
    this.#steps.push({ what, undo });
  }

  /** Registers a disposable and returns it. */
  use<T extends AsyncDisposable>(what: string, resource: T): T {
    this.defer(what, async () => resource[Symbol.asyncDispose]());
    return resource;
  }

  /** Moves every step to a new scope; this one then closes without doing anything. */
  move(): Scope {
    const next = new Scope(this.what);
    next.#steps = this.#steps;
    this.#steps = [];
    return next;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    const steps = this.#steps.reverse();
    this.#steps = [];
    const errors: unknown[] = [];
    for (const step of steps) {
      try {
        await runStep(step);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new ScopeError(errors, `closing ${this.what}: ${errors.length} step(s) failed`);
  }
}

async function runStep(step: Step): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${step.what}: not done after ${STEP_TIMEOUT_MS} ms`)), STEP_TIMEOUT_MS);
  });
  try {
    await Promise.race([step.undo(), late]);
  } catch (cause) {
    throw new Error(`giving back ${step.what}`, { cause });
  } finally {
    clearTimeout(timer);
  }
}
