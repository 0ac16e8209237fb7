/** [LIFE-10] [LIFE-21] [LIFE-28] Whatever is asked in whatever order, and whenever the daemon or a VM dies or the store fails: every state is legal, nothing is resumed twice. */
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { Killed, StagedHost, StagedStore, stagedDriver } from "../testing/staged-machines.ts";

const REQUESTS = ["wake", "pause", "hibernate", "stop"] as const;
const SETTLED = ["cold", "running", "paused", "hibernated"];

type Request = (typeof REQUESTS)[number];

type Action =
  | { kind: "wake" | "pause" | "hibernate" | "stop" | "crashVm" | "restartDaemon" | "failSave" | "failStart" | "failResume" }
  /** The daemon dies after so many steps of what follows, and is started again. */
  | { kind: "killAfter"; steps: number; during: Request }
  /** The store fails `count` times after so many writes of what follows, and takes everything again afterwards. */
  | { kind: "failStore"; after: number; count: number; during: [Request, Request] };

const action: fc.Arbitrary<Action> = fc.oneof(
  fc
    .constantFrom("wake", "pause", "hibernate", "stop", "crashVm", "restartDaemon", "failSave", "failStart", "failResume")
    .map((kind): Action => ({ kind }) as Action),
  fc.record({
    kind: fc.constant("killAfter" as const),
    steps: fc.nat({ max: 9 }),
    during: fc.constantFrom(...REQUESTS),
  }),
  fc.record({
    kind: fc.constant("failStore" as const),
    after: fc.nat({ max: 3 }),
    count: fc.integer({ min: 1, max: 4 }),
    during: fc.tuple(fc.constantFrom(...REQUESTS), fc.constantFrom(...REQUESTS)),
  }),
);

const hosts: StagedHost[] = [];
afterEach(() => {
  for (const host of hosts.splice(0)) host.remove();
});

class World {
  readonly host = new StagedHost();
  readonly store = new StagedStore({ kind: "cold" });
  driver = stagedDriver(this.host, this.store).driver;

  constructor() {
    hosts.push(this.host);
  }

  async run(action: Action): Promise<void> {
    const { host } = this;
    switch (action.kind) {
      case "killAfter":
        host.stepsLeft = action.steps;
        await this.#ask(action.during);
        host.stepsLeft = 0;
        await this.#restart();
        return;
      case "failStore":
        this.store.fails = { after: action.after, count: action.count };
        for (const request of action.during) {
          await this.#ask(request);
          expect(host.vms.size).toBeLessThanOrEqual(1);
        }
        this.store.fails = { after: 0, count: 0 };
        await this.driver.snapshotStep({ memory: false }, async () => {});
        return;
      case "restartDaemon":
        return await this.#restart();
      case "crashVm":
        for (const vm of host.vms.values()) vm.end({ kind: "crashed", detail: "" });
        // The driver's step for it is queued; any request comes behind it.
        await this.driver.snapshotStep({ memory: false }, async () => {});
        return;
      case "failSave":
        host.failSave = new Error("injected");
        return;
      case "failStart":
        host.failNext = new Error("injected");
        return;
      case "failResume":
        host.failResume = new Error("injected");
        return;
      default:
        await this.#ask(action.kind);
    }
  }

  async #ask(what: Request): Promise<void> {
    const { driver } = this;
    try {
      if (what === "wake") await driver.wake();
      else if (what === "stop") await driver.stop();
      else await driver.sleep({ depth: what === "pause" ? "paused" : "hibernated" });
    } catch (error) {
      if (!(error instanceof Killed) && (error as Error).message !== "injected") throw error;
    }
  }

  /** A dead daemon's driver does nothing more; the next one reads what is stored. */
  async #restart(): Promise<void> {
    this.host.stepsLeft = Number.POSITIVE_INFINITY;
    this.driver = stagedDriver(this.host, this.store).driver;
    await this.driver.recover(this.store.machine);
  }

  check(): void {
    const { host, driver, store } = this;
    const { state } = driver;
    expect(SETTLED).toContain(state.kind);
    expect(store.state).toEqual(state);
    expect(host.wrongResumes).toEqual([]);
    expect([...host.vms.keys()]).toEqual("incarnation" in state && state.incarnation !== undefined ? [state.incarnation] : []);
    expect(store.machine?.incarnation).toBe("incarnation" in state ? state.incarnation : undefined);
    if (state.kind === "running" || state.kind === "paused") {
      const vm = host.vms.get(state.incarnation);
      expect(vm?.isPaused).toBe(state.kind === "paused");
      // The life's name is the guest's own: no other memory was taken for it.
      expect(vm?.guest.born).toBe(state.life);
    }
    expect(driver.life?.id).toBe(state.kind === "cold" ? undefined : "life" in state ? state.life : undefined);
  }
}

test("[LIFE-10] [LIFE-21] [LIFE-28] every order of requests, faults and deaths leaves legal states", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 25 }), async (actions) => {
      const world = new World();
      for (const each of actions) {
        await world.run(each);
        world.check();
      }
      world.host.remove();
    }),
    { numRuns: 600 },
  );
});
