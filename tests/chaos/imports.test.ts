import { Readable } from "node:stream";
import { describe, expect, test } from "vitest";
import { ChaosHome } from "./home.ts";

/** Effects of an import; a later fault strikes nothing. */
const EFFECTS_MAX = 40;

describe("imports under faults", () => {
  test("[ARCH-3] a disk that fails at any effect: the sprite is there when the import was answered, and not when it was refused", async () => {
    const outcomes = new Map<string, number>();
    for (let at = 1; at <= EFFECTS_MAX; at += 1) {
      await using home = await ChaosHome.open();
      const daemon = await home.start(home.newProgram());
      if (!daemon) throw new Error("the daemon died while starting");
      const { features, organizationId, program } = daemon;
      const config = { organizationId, config: {}, environment: {}, labels: [], urlSettings: {}, imageName: undefined };
      await program.ask(() => features.sprites.create({ ...config, name: "source" }));
      const exported = await program.ask(async () =>
        Buffer.concat(await (await features.archives.export({ organizationId, name: "source", checkpointId: undefined })).toArray()),
      );
      if (exported.kind !== "ok") throw new Error("not exported");
      program.inject({ kind: "fail", at, code: "EIO", torn: false, count: 1 });
      const { kind } = await program.ask(() => features.archives.import({ organizationId, name: "copy" }, Readable.from([exported.value])));
      program.inject(undefined);
      const names = features.sprites.list(organizationId, { maxResults: 10 }).sprites.map(({ name }) => name);
      expect(names.includes("copy"), `effect ${at}: ${kind}`).toBe(kind === "ok");
      outcomes.set(kind, (outcomes.get(kind) ?? 0) + 1);
      program.die();
      await program.quiet();
    }
    expect(outcomes.get("failed")).toBeGreaterThan(5);
    expect(outcomes.get("ok")).toBeGreaterThan(5);
  });
});
