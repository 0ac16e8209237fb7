/** Which ports are forwarded, without network. */
import { describe, expect, test } from "vitest";
import { CliError } from "../output/cli-error.ts";
import type { Target } from "../settings/load.ts";
import { Forwarder } from "./forwarder.ts";
import type { PortMapping } from "./mapping.ts";

const target = { sprite: "dev", server: { apiUrl: "http://127.0.0.1:1", token: "t" } } as Target;
const at = (port: number, address = "0.0.0.0") => ({ port, address, pid: 1 });

/** A forwarder over local ports in memory; `busy` are taken, below 1024 is forbidden. */
function inMemory(busy: readonly number[] = []) {
  const open = new Map<number, PortMapping>();
  const lines: string[] = [];
  const forwarder = new Forwarder(target, {
    say: (line) => lines.push(line),
    open: async (_target, mapping) => {
      if (mapping.localPort < 1024) throw new CliError("forbidden", { code: "port_forbidden" });
      if (busy.includes(mapping.localPort) || open.has(mapping.localPort)) throw new CliError("busy", { code: "port_busy" });
      open.set(mapping.localPort, mapping);
      return { [Symbol.asyncDispose]: async () => void open.delete(mapping.localPort) };
    },
  });
  const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));
  return { forwarder, open, lines, settled };
}

describe("forwarded ports", () => {
  test("[PORT-5] what is opened later, not what was there before", async () => {
    const { forwarder, open, lines, settled } = inMemory();
    forwarder.listed([at(5432)]);
    forwarder.opened(at(3000));
    forwarder.opened(at(5432, "::"));
    await settled();
    expect([...open.keys()]).toEqual([3000]);
    expect(lines).toEqual(["sprite: localhost:3000 → dev:3000"]);
    await forwarder[Symbol.asyncDispose]();
    expect(open.size).toBe(0);
  });

  test("[PORT-5] one forward for a port on several addresses, until the last is closed", async () => {
    const { forwarder, open, lines, settled } = inMemory();
    forwarder.listed([]);
    forwarder.opened(at(3000));
    forwarder.opened(at(3000, "::"));
    await settled();
    forwarder.closed(at(3000));
    await settled();
    expect([open.has(3000), lines.length]).toEqual([true, 1]);
    forwarder.closed(at(3000, "::"));
    await settled();
    expect(open.has(3000)).toBe(false);
  });

  test("[PORT-5] a port that is busy here gets the next free one, one of root's another", async () => {
    const { forwarder, open, lines, settled } = inMemory([3000, 3001]);
    forwarder.listed([]);
    forwarder.opened(at(3000, "127.0.0.1"));
    await settled();
    forwarder.opened(at(80, "10.0.0.5"));
    await settled();
    expect(lines).toEqual([
      "sprite: localhost:3002 → dev:3000 (3000 cannot be used here)",
      "sprite: localhost:8080 → 10.0.0.5:80 in dev (80 cannot be used here)",
    ]);
    expect(open.get(8080)?.remoteHost).toBe("10.0.0.5");
  });

  test("[PORT-5] after a lost connection the new list is compared with what is known", async () => {
    const { forwarder, open, settled } = inMemory();
    forwarder.listed([at(1111)]);
    forwarder.opened(at(3000));
    forwarder.opened(at(4000));
    await settled();
    forwarder.listed([at(1111), at(4000), at(5000)]);
    await settled();
    expect([...open.keys()].toSorted((one, other) => one - other)).toEqual([4000, 5000]);
  });
});
