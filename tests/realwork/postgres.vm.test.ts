/** A PostgreSQL server in a sprite and `psql` on this host, through `sprite proxy`. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { collect } from "../e2e/cli-run.ts";
import { freePort } from "../kit/daemon-process.ts";
import { DEVELOPER_IMAGE, developerSkipReason, type Way, WAYS, Workshop } from "./workshop.ts";

vi.setConfig({ testTimeout: 900_000, hookTimeout: 900_000 });

const ROWS = 20_000;
const SESSION = `
\\set ON_ERROR_STOP on
DROP TABLE IF EXISTS thing;
CREATE TABLE thing (id int PRIMARY KEY, name text NOT NULL, at timestamptz DEFAULT now());
\\copy thing (id, name) FROM STDIN
${Array.from({ length: ROWS }, (_, index) => `${index + 1}\tthing number ${index + 1}`).join("\n")}
\\.
BEGIN;
UPDATE thing SET name = upper(name) WHERE id % 2 = 0;
SELECT count(*), sum(id), md5(string_agg(name, ',' ORDER BY id)) FROM thing;
ROLLBACK;
SELECT pg_sleep(3) IS NULL;
SELECT id, name FROM thing ORDER BY id;
SELECT count(*), sum(id), md5(string_agg(name, ',' ORDER BY id)) FROM thing;
`;

/** One sentence, printed, when this cannot be tested. */
function skipReason(): string | undefined {
  const reason = developerSkipReason();
  if (reason !== undefined) return reason;
  if (spawnSync("psql", ["--version"]).status === 0) return undefined;
  const missing = "there is no psql on this host (Debian package postgresql-client)";
  console.warn(`skipped: ${missing}`);
  return missing;
}

describe.skipIf(skipReason() !== undefined)("PostgreSQL through sprite proxy", () => {
  let shop: Workshop;
  const answers: string[] = [];

  beforeAll(async () => {
    shop = await Workshop.open(DEVELOPER_IMAGE);
    const programs = "PATH=$(echo /usr/lib/postgresql/*/bin):$PATH";
    await shop.work("straight", `${programs}; initdb -D data -A trust -U sprite --no-sync >/dev/null`);
    await shop.serve(`${programs}; exec postgres -D data -k /tmp -c fsync=off -c listen_addresses=127.0.0.1`, 5432);
  });
  afterAll(() => shop?.[Symbol.asyncDispose]());

  /** Starts `sprite proxy` and waits until it says that it listens. */
  async function openProxy(way: Way): Promise<{ port: number; child: ChildProcess }> {
    const port = await freePort();
    const child = shop.home(way).start(["proxy", "-s", shop.name, `${port}:5432`]);
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once("data", () => resolve());
      child.stderr?.once("data", () => resolve());
      child.once("exit", (code) => reject(new Error(`sprite proxy ended with ${code}`)));
    });
    return { port, child };
  }

  test.each(WAYS)("a session of several statements, %s", async (way) => {
    const { port, child } = await openProxy(way);
    try {
      const before = shop.connections;
      using _ = way === "cut" ? shop.cutting() : { [Symbol.dispose]: () => {} };
      const psql = spawn("psql", ["-X", "-A", "-t", "-h", "127.0.0.1", "-p", String(port), "-U", "sprite", "postgres"], {
        env: { PATH: process.env["PATH"], PGCONNECT_TIMEOUT: "60" },
      });
      psql.stdin.end(SESSION);
      const { code, out, err } = await collect(psql, 600_000);
      expect([code, err.replaceAll(/NOTICE.*\n/g, "")]).toEqual([0, ""]);
      const lines = out.trim().split("\n");
      expect(lines).toHaveLength(ROWS + 9);
      expect(lines.at(-1)).toMatch(new RegExp(`^${ROWS}\\|${(ROWS * (ROWS + 1)) / 2}\\|[0-9a-f]{32}$`));
      if (way === "cut") expect(shop.connections - before).toBeGreaterThan(3);
      answers.push(out);
      expect(out).toBe(answers[0]);
    } finally {
      child.kill("SIGINT");
      await collect(child);
    }
  });
});
