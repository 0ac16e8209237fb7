/** Forks over the simulated VMM, with the API as a client sees it. */
import { describe, expect, test, vi } from "vitest";
import { useTarget } from "../conformance/suite.ts";
import { ask } from "../kit/http.ts";
import { openSimulated } from "../kit/simulated.ts";
import { sdkOf, uniqueName, withSprite } from "../kit/target.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

describe("forks", () => {
  let clones = 0;
  const fault: { at: number | undefined } = { at: undefined };
  const target = useTarget(() =>
    openSimulated({
      cloneFault: () => {
        clones += 1;
        return fault.at !== undefined && clones >= fault.at ? new Error("no room") : undefined;
      },
    }),
  );
  const fork = async (name: string, json: unknown) => await ask(target(), `/v1/sprites/${name}/fork`, { method: "POST", json });
  const names = async (): Promise<string[]> => (await sdkOf(target()).listAllSprites()).map((one) => one.name);

  test("[FORK-1, FORK-3, FORK-6] with given names and with made ones, each a sprite of its own", async () => {
    await withSprite(target(), "source", async (source) => {
      await source.execFile("true", []);
      const given = [uniqueName("child"), uniqueName("child")];
      const answer = await fork(source.name, { names: given, labels: ["copy"] });
      expect(answer.status).toBe(201);
      const made = answer.json()["sprites"] as { id: string; name: string; labels: string[]; image: string }[];
      expect(made.map(({ name }) => name)).toEqual(given);
      expect(new Set([source.id, ...made.map(({ id }) => id)]).size).toBe(3);
      expect(made.every(({ labels }) => labels.join() === "copy")).toBe(true);
      const counted = (await fork(source.name, { count: 3 })).json()["sprites"] as { name: string }[];
      expect(counted).toHaveLength(3);
      for (const { name } of counted) expect(name.startsWith(`${source.name}-`)).toBe(true);
      const [first = ""] = given;
      expect((await sdkOf(target()).sprite(first).execFile("echo", ["here"])).stdout).toBe("here\n");
      for (const name of [...given, ...counted.map((one) => one.name)]) await sdkOf(target()).deleteSprite(name);
    });
  });

  test("[FORK-4, FORK-5] everything of the source is in a fork: its environment, and with memory its memory", async () => {
    const client = sdkOf(target());
    const source = await client.createSprite(uniqueName("full"), { environment: { SECRET: "of the source" } });
    try {
      expect((await source.execFile("sh", ["-c", "echo $SECRET"])).stdout).toBe("of the source\n");
      const answer = await fork(source.name, { count: 2, memory: true });
      const forks = answer.json()["sprites"] as { name: string; status: string }[];
      expect(forks.map(({ status }) => status)).toEqual(["warm", "warm"]);
      for (const { name } of forks) {
        expect((await client.sprite(name).execFile("sh", ["-c", "echo $SECRET"])).stdout).toBe("of the source\n");
        await client.deleteSprite(name);
      }
      await ask(target(), `/v1/sprites/${source.name}/sleep`, { method: "POST", json: { cold: true } });
      const cold = (await fork(source.name, { memory: true })).json()["sprites"] as { name: string; status: string }[];
      expect(cold.map(({ status }) => status)).toEqual(["cold"]);
      await client.deleteSprite(cold[0]?.name ?? "");
    } finally {
      await source.delete();
    }
  });

  test("[FORK-2] a clone that fails half way: none is there, and the source works", async () => {
    await withSprite(target(), "half", async (source) => {
      const before = await names();
      // One clone for the copy, then one for each fork.
      fault.at = clones + 4;
      const answer = await fork(source.name, { count: 6 });
      fault.at = undefined;
      expect(answer.status).toBe(500);
      expect(await names()).toEqual(before);
      expect((await source.execFile("echo", ["well"])).stdout).toBe("well\n");
    });
  });

  test("[FORK-6] what is wrong is said before anything is copied", async () => {
    await withSprite(target(), "wrong", async (source) => {
      const before = clones;
      for (const [json, status, code] of [
        [{ count: 101 }, 400, "fork_invalid"],
        [{ names: ["same", "same"] }, 400, "fork_invalid"],
        [{ names: ["one"], count: 2 }, 400, "fork_invalid"],
        [{ names: ["Not-A-Name"] }, 400, "name_invalid"],
        [{ number: 1 }, 400, "field_unknown"],
      ] as const) {
        const answer = await fork(source.name, json);
        expect([answer.status, answer.json()["error"]], JSON.stringify(json)).toEqual([status, code]);
      }
      expect(clones).toBe(before);
      expect((await fork(source.name, { names: [source.name] })).json()["error"]).toBe("sprite_name_taken");
      expect((await fork("no-such-sprite", {})).json()["error"]).toBe("sprite_not_found");
    });
  });
});
