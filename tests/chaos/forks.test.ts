import { waitFor } from "@sprited/base";
import { describe, expect, test } from "vitest";
import type { Fault, Mortal } from "../kit/mortal.ts";
import { ChaosHome, type Daemon } from "./home.ts";

/** Effects of a fork of two; a later fault strikes nothing. */
const EFFECTS_MAX = 60;

describe("forks under faults", () => {
  const names = ({ features, organizationId }: Daemon): string[] =>
    features.sprites.list(organizationId, { maxResults: 100 }).sprites.map(({ name }) => name);

  /** Forks a sprite under a fault; `after` sees the daemon that met it, the outcome and how to start the next one. */
  const forkUnder = async (fault: Fault, after: (daemon: Daemon, kind: string, next: () => Promise<Daemon>) => Promise<void>) => {
    await using home = await ChaosHome.open();
    const start = async (program: Mortal): Promise<Daemon> => {
      const daemon = await home.start(program);
      if (!daemon) throw new Error("the daemon died while starting");
      return daemon;
    };
    const daemon = await start(home.newProgram());
    const { features, organizationId, program } = daemon;
    const config = { organizationId, config: {}, environment: {}, labels: [], urlSettings: {}, imageName: undefined };
    await program.ask(() => features.sprites.create({ ...config, name: "source" }));
    program.inject(fault);
    const outcome = await program.ask(() =>
      features.forks.fork({ organizationId, source: "source", names: ["one", "two"], memory: false }),
    );
    let last = daemon;
    const next = async (): Promise<Daemon> => {
      program.die();
      await program.quiet();
      last = await start(home.newProgram());
      return last;
    };
    await after(daemon, outcome.kind, next);
    last.program.die();
    await last.program.quiet();
  };

  test("[FORK-2] on a disk that is full from any effect on: none, at the latest after the next start", async () => {
    let refused = 0;
    for (let at = 1; at <= EFFECTS_MAX; at += 1) {
      await forkUnder({ kind: "fail", at, code: "ENOSPC", torn: false, count: 10_000 }, async (daemon, kind, next) => {
        if (kind === "ok") return;
        refused += 1;
        expect(names(daemon), `effect ${at}`).toEqual(["source"]);
        expect(names(await next()), `effect ${at}`).toEqual(["source"]);
      });
    }
    expect(refused).toBeGreaterThan(10);
  });

  test("[FORK-2] a daemon that dies at any effect: all or none after the next start", async () => {
    const found = new Set<number>();
    for (let at = 1; at <= EFFECTS_MAX; at += 1) {
      await forkUnder({ kind: "die", at, how: "before", isPowerCut: false }, async (_daemon, kind, next) => {
        const there = names(await next());
        expect([1, 3], `effect ${at}: ${there.join(", ")}`).toContain(there.length);
        if (kind === "ok") expect(there).toEqual(["one", "source", "two"]);
        found.add(there.length);
      });
    }
    expect(found).toEqual(new Set([1, 3]));
  });

  test("[LIFE-1] what could not be freed is freed as soon as it can be, and its name with it", async () => {
    const rows = (daemon: Daemon): number => daemon.features.sprites.ids().length;
    let left = 0;
    for (let at = 1; at <= EFFECTS_MAX && left === 0; at += 1) {
      await forkUnder({ kind: "fail", at, code: "ENOSPC", torn: false, count: 10_000 }, async (daemon, kind) => {
        if (kind === "ok" || rows(daemon) === 1) return;
        left += 1;
        daemon.program.inject(undefined);
        await waitFor("the forks to go", { timeoutMs: 60_000, everyMs: 50 }, () => rows(daemon) === 1);
      });
    }
    expect(left).toBe(1);
  });
});
