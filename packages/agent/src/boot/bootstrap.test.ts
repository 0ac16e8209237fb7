/** What must be done before an agent says that it works for an incarnation, and what it does not do when that fails. */
import { PassThrough } from "node:stream";
import type { Bootstrap } from "@sprited/protocol/guest";
import { expect, test } from "vitest";
import type { LinkServer } from "../link/link-server.ts";
import { BootProtocol } from "./bootstrap.ts";

const bootstrap: Bootstrap = {
  type: "bootstrap",
  generation: 1,
  incarnation: "i1",
  key: Buffer.alloc(32).toString("base64"),
  time_ms: 1,
  entropy: Buffer.alloc(64).toString("base64"),
  identity: { hostname: "one", machine_id: "0".repeat(32), renew: false },
  drop_connections: true,
  environment: {},
  root_serial: "root",
};

/** The order of steps, and the answer, when the step `failing` throws. */
function stepsOf(failing?: string): { steps: string[]; answer: unknown } {
  const steps: string[] = [];
  const step = (name: string) => () => {
    steps.push(name);
    if (name === failing) throw new Error(`no ${name}`);
  };
  const port = new PassThrough();
  const said: string[] = [];
  port.write = ((text: string) => said.push(text) > 0) as typeof port.write;
  new BootProtocol({
    port,
    agentVersion: "1",
    machine: { setClock: step("clock"), reseed: step("entropy") },
    links: { setKey: step("key") } as Partial<LinkServer> as LinkServer,
    serialLink: undefined,
    dropInherited: step("connections"),
    onBootstrap: step("work"),
  });
  port.emit("data", Buffer.from(`${JSON.stringify(bootstrap)}\n`));
  return { steps, answer: JSON.parse(said.join("")) };
}

test("[BOOT-4] [BOOT-7] clock, randomness and inherited connections come before the key and any work", () => {
  const { steps, answer } = stepsOf();
  expect(steps).toEqual(["clock", "entropy", "connections", "key", "work"]);
  expect(answer).toEqual({ type: "bootstrapped", incarnation: "i1" });
});

test.each(["clock", "entropy", "connections"])("[BOOT-4] [BOOT-7] when %s fails nothing works", (failing) => {
  const { steps, answer } = stepsOf(failing);
  expect(steps.at(-1)).toBe(failing);
  expect(answer).toEqual({ type: "failed", incarnation: "i1", step: failing, message: `no ${failing}` });
});
