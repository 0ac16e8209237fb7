import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openDatabase, sessionRecords } from "../store/index.ts";
import { InputLedger, type InputStore } from "./input-ledger.ts";

const CLIENTS = ["", "one", "two", "three"];

type Step = { kind: "write"; client: string; bytes: number } | { kind: "take"; share: number } | { kind: "restart"; share: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("write" as const),
      client: fc.constantFrom(...CLIENTS),
      bytes: fc.integer({ min: 1, max: 9 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("take" as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }) },
);

/** The input as a row of names, one for each byte. */
class Model {
  owners: string[] = [];
  taken = 0;

  of(client: string): { accepted: number; taken: number } {
    const count = (owners: string[]): number => owners.filter((one) => one === client).length;
    return { accepted: count(this.owners), taken: count(this.owners.slice(0, this.taken)) };
  }
}

function storeOf(records: ReturnType<typeof sessionRecords>): InputStore {
  return records.input("sprite", "1");
}

describe("input ledger", () => {
  test("[EXEC-25] counts are those of each client at any order of input, taking and restarts", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const database = openDatabase(":memory:");
        const records = sessionRecords(database);
        const model = new Model();
        let ledger = new InputLedger(storeOf(records));
        for (const one of steps) {
          if (one.kind === "write") {
            ledger.accept(one.client, one.bytes);
            model.owners.push(...Array.from({ length: one.bytes }, () => one.client));
          } else if (one.kind === "take") {
            model.taken += Math.floor((model.owners.length - model.taken) * one.share);
            ledger.took(model.taken);
          } else {
            // The guest had got this far when the daemon died; the rest was only here.
            const received = model.taken + Math.floor((model.owners.length - model.taken) * one.share);
            model.owners = model.owners.slice(0, received);
            ledger = new InputLedger(storeOf(records));
            ledger.resume(model.taken, received);
          }
          for (const client of CLIENTS) expect(ledger.of(client)).toEqual(model.of(client));
        }
        database.close();
      }),
      { numRuns: 150 },
    );
  });

  test("[EXEC-25] clients without a name alone put nothing on record", () => {
    const database = openDatabase(":memory:");
    const store = storeOf(sessionRecords(database));
    const ledger = new InputLedger(store);
    for (let round = 0; round < 100; round++) ledger.accept("", 10);
    ledger.took(500);
    expect(store.load()).toEqual({ counts: [], runs: [] });
    database.close();
  });

  test("[EXEC-25] the record stays small however often the input passes from one to another", () => {
    const database = openDatabase(":memory:");
    const store = storeOf(sessionRecords(database));
    const ledger = new InputLedger(store);
    for (let round = 0; round < 5000; round++) {
      ledger.accept(CLIENTS[round % 3] ?? "", 3);
      ledger.took(3 * round);
    }
    expect(store.load().runs.length).toBeLessThan(100);
    database.close();
  });

  test("[EXEC-25] of very many names those that were silent longest are forgotten, never one that is owed something", () => {
    const database = openDatabase(":memory:");
    const ledger = new InputLedger(storeOf(sessionRecords(database)));
    ledger.accept("first", 1);
    ledger.accept("owed", 1);
    for (let at = 0; at < 1500; at++) ledger.accept(`name-${at}`, 1);
    expect(ledger.of("first")).toEqual({ accepted: 1, taken: 0 });
    ledger.took(1);
    ledger.accept("one more", 1);
    expect([ledger.of("first"), ledger.of("owed")]).toEqual([
      { accepted: 0, taken: 0 },
      { accepted: 1, taken: 0 },
    ]);
    ledger.accept("first", 5);
    const next = new InputLedger(storeOf(sessionRecords(database)));
    next.resume(1, 1508);
    expect(next.of("first")).toEqual({ accepted: 5, taken: 0 });
    database.close();
  });

  test("[EXEC-25] what could not be put on record is not taken", () => {
    const store: InputStore = {
      load: () => ({ counts: [], runs: [] }),
      add: () => {
        throw new Error("the disk is full");
      },
      fold: () => {},
    };
    const ledger = new InputLedger(store);
    expect(() => ledger.accept("one", 5)).toThrow("the disk is full");
    expect(ledger.of("one")).toEqual({ accepted: 0, taken: 0 });
    ledger.accept("", 5);
    expect(ledger.of("")).toEqual({ accepted: 5, taken: 0 });
  });
});
