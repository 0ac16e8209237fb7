/**
 * The product's part of the test's world: opens the network slots of one home where it runs, and
 * does with them what the lines on stdin say. A process of its own, so that it can be killed.
 * First argument: the options as JSON.
 */
import readline from "node:readline";
import type { Logger } from "@sprited/base";
import { MANAGEMENT_NETWORK, USER_NETWORK } from "@sprited/protocol/guest";
import { type NetworkOptions, type NetworkSlot, openNetworkSlots, VmmError } from "@sprited/vmm";

export type SlotsCommand =
  | { op: "acquire"; count: number }
  | { op: "release"; index: number }
  | { op: "adopt"; index: number }
  | { op: "settle" }
  | { op: "close" }
  | { op: "refresh" }
  | { op: "problems" }
  /** Events that were logged so far. */
  | { op: "events" };

const events: string[] = [];
const note = (fields: Record<string, unknown>, message: string): void => {
  events.push(String(fields["event"]));
  if (fields["err"]) process.stderr.write(`${message}: ${String((fields["err"] as Error).cause ?? fields["err"])}\n`);
};
const log: Logger = { debug: note, info: note, warn: note, error: note, child: () => log };
const taken = new Map<number, NetworkSlot>();

async function answer(id: number, work: () => Promise<unknown>): Promise<void> {
  const line = await work().then(
    (result) => ({ id, result: result ?? null }),
    (error: unknown) => ({ id, error: error instanceof VmmError ? `${error.code}: ${error.message}` : String(error) }),
  );
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const options = JSON.parse(process.argv[2] ?? "{}") as Omit<NetworkOptions, "layout">;
const opening = openNetworkSlots({ ...options, layout: { management: MANAGEMENT_NETWORK, user: USER_NETWORK }, log });
await answer(0, async () => void (await opening));
const slots = await opening.catch(() => process.exit(1));

async function act(command: SlotsCommand): Promise<unknown> {
  switch (command.op) {
    case "acquire": {
      const start = performance.now();
      const got = await Promise.all(Array.from({ length: command.count }, async () => slots.acquire()));
      for (const slot of got) taken.set(slot.index, slot);
      return { slots: got, ms: performance.now() - start };
    }
    case "release": {
      const slot = taken.get(command.index);
      return slot && slots.release(slot);
    }
    case "adopt": {
      const slot = await slots.adopt(command.index);
      if (slot) taken.set(slot.index, slot);
      return slot;
    }
    case "settle":
      return slots.settle();
    case "close":
      return slots.close();
    case "refresh":
      return slots.refresh();
    case "problems":
      return slots.problems;
    case "events":
      return events;
  }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { id, command } = JSON.parse(line) as { id: number; command: SlotsCommand };
  void answer(id, async () => act(command));
}
