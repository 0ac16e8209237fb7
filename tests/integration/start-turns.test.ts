/** Many sprites that are wanted at once wake in turn, and everybody is answered. */
import os from "node:os";
import { startBareAgent } from "@sprited/agent/bare";
import { sleep, waitFor } from "@sprited/base";
import { expect, test } from "vitest";
import { execRaw } from "../kit/exec-socket.ts";
import { openSimulated } from "../kit/simulated.ts";
import { createSprite } from "../kit/tenants.ts";

const PARALLEL = 2;
/** Long enough for a start that nothing holds back. */
const QUIET_MS = 300;

test("[LIFE-32] so many machines start at a time; a command waits for its sprite's turn", async () => {
  const held: (() => void)[] = [];
  let isHolding = false;
  await using target = await openSimulated({
    startsParallel: PARALLEL,
    guest: async (ports, route) => {
      if (isHolding) await new Promise<void>((resolve) => held.push(resolve));
      const agent = await startBareAgent({ bootPort: ports.boot, linkPort: ports.link, home: os.tmpdir() });
      route(agent.address);
      return { setPaused: (isPaused) => agent.setStopped(isPaused), [Symbol.asyncDispose]: () => agent[Symbol.asyncDispose]() };
    },
  });
  await createSprite(target, "first");
  expect((await execRaw(target, "first", { cmd: ["echo", "first"] })).stdout.toString()).toBe("first\n");
  const names = ["a", "b", "c", "d", "e"];
  for (const name of names) await createSprite(target, name);
  isHolding = true;
  let answered = 0;
  const echoes = names.map(async (name) => {
    const { stdout } = await execRaw(target, name, { cmd: ["echo", name] });
    answered += 1;
    return stdout.toString();
  });
  for (let begun = 0; begun < names.length; begun += 1) {
    const expected = Math.min(names.length - begun, PARALLEL);
    await waitFor("the next starts", { timeoutMs: 10_000 }, () => held.length === expected);
    await sleep(begun === 0 ? QUIET_MS : 0);
    expect([held.length, answered]).toEqual([expected, begun]);
    held.shift()?.();
    await waitFor("the answer", { timeoutMs: 10_000 }, () => answered === begun + 1);
  }
  expect(await Promise.all(echoes)).toEqual(names.map((name) => `${name}\n`));
});
