/**
 * One seed's history: rounds of steps, each with a fault at some effect, a recovery that may be
 * cut short as well, and a check of everything that is owed.
 */
import type { Fault, Mortal } from "../kit/mortal.ts";
import { ChaosHome, type Daemon } from "./home.ts";
import { checkInvariants, checkJobsEnd } from "./invariants.ts";
import { Model } from "./model.ts";
import { Random } from "../kit/random.ts";
import { nextStep, type StepContext } from "./steps.ts";

/** Effects after which a fault strikes at the latest; a step has 5 to 80. */
const EFFECTS_MAX = 90;
const STEPS_MAX = 6;
/** Share of the deaths that are the host's. */
const POWER_CUTS = 0.4;
/** Patience before somebody looks after sprites that nobody wakes, ms. */
const VISIT_EVERY_MS = 500;

/** What happened in a world, for people. */
export interface History {
  seed: number;
  lines: string[];
}

/** Lives through `rounds` rounds. Rejects with what was violated; `history` tells how it came about. */
export async function liveWorld(rounds: number, history: History): Promise<void> {
  const random = new Random(history.seed);
  const model = new Model();
  await using home = await ChaosHome.open();
  const note = (text: string): ((end: string) => void) => {
    const at = history.lines.push(text) - 1;
    return (end) => {
      history.lines[at] += end;
    };
  };
  let daemon = await bornDaemon(home, { model, random, note }, { isFirst: true });
  const contextOf = (): StepContext => ({ daemon, model, random, note, busy: new Set() });
  try {
    for (let round = 1; round <= rounds; round += 1) {
      note(`round ${round}`);
      await liveRound(home, contextOf());
      daemon.program.die(random.chance(POWER_CUTS));
      note(`daemon died after ${daemon.program.trace.slice(-3).join(" | ")}`);
      await layOut(home, daemon.program, contextOf());
      daemon = await bornDaemon(home, { model, random, note }, { isFirst: false });
      await checkInvariants(home, contextOf());
    }
    await checkJobsEnd(contextOf());
  } catch (error) {
    history.lines.push(`last effects:\n  ${daemon.program.trace.slice(-40).join("\n  ")}`);
    throw error;
  } finally {
    daemon.program.die();
    await daemon.program.quiet();
  }
}

/** Once a daemon is dead, whatever it had under way is over, and what a power cut takes is gone. */
async function layOut(home: ChaosHome, program: Mortal, { model, random, note }: Omit<StepContext, "daemon" | "busy">): Promise<void> {
  await program.quiet();
  const lost = await home.afterDeath(program, random);
  if (!program.isPowerCut) return;
  model.lostPower();
  note(`the power was cut: lost ${lost.join(", ")}`);
}

async function liveRound(home: ChaosHome, context: StepContext): Promise<void> {
  const { daemon, model, random, note } = context;
  const fault = chooseFault(home, context);
  note(`fault: ${JSON.stringify(fault)}`);
  daemon.program.inject(fault);
  const steps = random.between(1, STEPS_MAX);
  for (let step = 0; step < steps && !daemon.program.isDead; step += 1) {
    const users = random.chance(0.2) ? 2 : 1;
    await withVisitors(context, Promise.all(Array.from({ length: users }, () => nextStep(model, random)(context))));
  }
  daemon.program.inject(undefined);
}

/** What was put to sleep in the middle of a command goes on when somebody comes by. */
async function withVisitors({ daemon, model }: StepContext, work: Promise<unknown>): Promise<void> {
  const { features, organizationId, program } = daemon;
  const over = work.then(() => true);
  const later = (): Promise<boolean> => new Promise((resolve) => setTimeout(() => resolve(false), VISIT_EVERY_MS));
  while (!(await Promise.race([over, later()])))
    for (const sprite of model.sure()) {
      sprite.isAsleep = false;
      await program.ask(() => features.sprites.wake(organizationId, sprite.name));
    }
}

function chooseFault({ host }: ChaosHome, { model, random }: StepContext): Fault {
  const at = random.between(1, EFFECTS_MAX);
  const dice = random.next();
  if (dice < 0.65) return death(random, at);
  if (dice < 0.88) {
    const code = random.pick(["ENOSPC", "EIO"] as const);
    return { kind: "fail", at, code, torn: random.chance(0.5), count: random.pick([1, 1, 2, 5]) };
  }
  return {
    kind: "happen",
    at,
    what: () => {
      const victim = random.pickMaybe(host.running());
      if (!victim) return;
      model.crashed();
      void host.crash(victim.spec.incarnation);
    },
  };
}

function death(random: Random, at: number): Fault {
  return { kind: "die", at, how: random.pick(["before", "after", "torn"] as const), isPowerCut: random.chance(POWER_CUTS) };
}

/** A daemon that has recovered; some die while they do. */
async function bornDaemon(home: ChaosHome, context: Omit<StepContext, "daemon" | "busy">, options: { isFirst: boolean }): Promise<Daemon> {
  const { random, note } = context;
  for (let attempt = 0; ; attempt += 1) {
    const program = home.newProgram();
    if (!options.isFirst && attempt < 3 && random.chance(0.3)) program.inject(death(random, random.between(1, 40)));
    const daemon = await home.start(program);
    program.inject(undefined);
    if (daemon && !program.isDead) return daemon;
    note(`died while starting, after ${program.trace.slice(-2).join(" | ")}`);
    await layOut(home, program, context);
  }
}
