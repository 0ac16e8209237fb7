/** Who is told of ports and when; and that nothing is looked at for nobody. */
import { sleep, waitFor } from "@sprited/base";
import type { PortsLine } from "@sprited/protocol/guest";
import { expect, test } from "vitest";
import { type Listeners, type PortScan } from "./port-scan.ts";
import { PortWatch } from "./port-watch.ts";

/** A scan whose result the test sets. */
class StagedScan {
  scans = 0;
  ports: number[] = [];

  async scan(): Promise<Listeners> {
    this.scans += 1;
    return new Map(this.ports.map((port) => [`0.0.0.0 ${port}`, { port, address: "0.0.0.0", pid: 1, inodes: new Set([`${port}`]) }]));
  }
}

function watched(): { scan: StagedScan; watch: PortWatch } {
  const scan = new StagedScan();
  return { scan, watch: new PortWatch(scan as unknown as PortScan) };
}

class Listener {
  isReady = true;
  readonly lines: PortsLine[] = [];
  tell(line: PortsLine): void {
    this.lines.push(line);
  }
  get opened(): number[][] {
    return this.lines.map(({ opened }) => opened.map(({ port }) => port));
  }
}

test("[PORTS-3] [PORT-1] nothing is looked at before the first watcher and after the last", async () => {
  const { scan, watch } = watched();
  await sleep(20);
  expect(scan.scans).toBe(0);
  const [one, two] = [new Listener(), new Listener()];
  const stops = [watch.watch(one), watch.watch(two)];
  await waitFor("both lists", { timeoutMs: 5_000 }, () => one.lines.length === 1 && two.lines.length === 1);
  for (const stop of stops) stop();
  const before = scan.scans;
  await sleep(1_200);
  expect(scan.scans).toBe(before);
});

test("[PORTS-1] [PORTS-3] a watcher hears the list and each change; one that does not read hears the sum", async () => {
  const { scan, watch } = watched();
  scan.ports = [80];
  const [ready, slow] = [new Listener(), new Listener()];
  const stops = [watch.watch(ready), watch.watch(slow)];
  await waitFor("the lists", { timeoutMs: 5_000 }, () => ready.lines.length === 1 && slow.lines.length === 1);
  slow.isReady = false;
  scan.ports = [80, 81];
  await waitFor("the first change", { timeoutMs: 5_000 }, () => ready.lines.length === 2);
  scan.ports = [82];
  await waitFor("the second change", { timeoutMs: 5_000 }, () => ready.lines.length === 3);
  slow.isReady = true;
  await waitFor("the sum", { timeoutMs: 5_000 }, () => slow.lines.length === 2);
  expect(ready.opened).toEqual([[80], [81], [82]]);
  expect(slow.opened).toEqual([[80], [82]]);
  expect(slow.lines[1]?.closed.map(({ port }) => port)).toEqual([80]);
  for (const stop of stops) stop();
});
