/** Freezing a guest's disk over the link, with a real agent as a process. */
import { sleep } from "@sprited/base";
import { describe, expect, test } from "vitest";
import { runCommand, startBareGuest } from "../kit/bare-guest.ts";

describe("freeze and thaw", () => {
  test("[LINK-6] a freeze holds until it is thawed, and commands go on meanwhile", async () => {
    await using guest = await startBareGuest();
    await using link = await guest.link();
    await link.freeze(5_000);
    expect((await runCommand(link, ["echo", "here"])).stdout.toString()).toBe("here\n");
    expect(await link.thaw()).toEqual({ held: true });
    expect(await link.thaw()).toEqual({ held: false });
  });

  test("[LINK-6] one that was not thawed in time did not hold", async () => {
    await using guest = await startBareGuest();
    await using link = await guest.link();
    await link.freeze(100);
    await sleep(150);
    expect(await link.thaw()).toEqual({ held: false });
  });

  test("[LINK-6] a freeze without end is refused", async () => {
    await using guest = await startBareGuest();
    await using link = await guest.link();
    await expect(link.freeze(10 * 60_000)).rejects.toMatchObject({ code: "guest_refused" });
  });
});
