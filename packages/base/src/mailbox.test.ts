import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Mailbox, MailboxFullError } from "./mailbox.ts";

describe("Mailbox", () => {
  it("runs jobs one at a time in the order they came, whatever they take", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.record({ turns: fc.nat(3), fails: fc.boolean() }), { maxLength: 10 }), async (jobs) => {
        const mailbox = new Mailbox({ capacity: jobs.length + 1 });
        const events: string[] = [];
        const results = await Promise.allSettled(
          jobs.map(async ({ turns, fails }, index) =>
            mailbox.run(async () => {
              events.push(`begin ${index}`);
              for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
              events.push(`end ${index}`);
              if (fails) throw new Error("failed");
              return index;
            }),
          ),
        );
        expect(events).toEqual(jobs.flatMap((_, index) => [`begin ${index}`, `end ${index}`]));
        expect(results.map((result) => result.status)).toEqual(jobs.map(({ fails }) => (fails ? "rejected" : "fulfilled")));
        expect(mailbox.depth).toBe(0);
      }),
      { numRuns: 100 },
    );
  });

  it("refuses at once when full and takes more when there is room again", async () => {
    const mailbox = new Mailbox({ capacity: 2 });
    const { promise, resolve } = Promise.withResolvers<void>();
    const first = mailbox.run(async () => promise);
    const second = mailbox.run(async () => "second");
    expect(mailbox.depth).toBe(2);
    await expect(mailbox.run(async () => "third")).rejects.toThrow(MailboxFullError);
    resolve();
    await first;
    expect(await second).toBe("second");
    expect(await mailbox.run(async () => "fourth")).toBe("fourth");
  });
});
