/** Address ranges for tests: a home claims its range by an nft table, so a free one can be seen. */
import { run } from "@sprited/base";

const RANGES = [18, 19].flatMap((second) => Array.from({ length: 16 }, (_, index) => `198.${second}.${index * 16}.0/20`));

/** A range of the benchmarking network that no home on this host uses; `seed` spreads parallel choosers. */
export async function findFreeRange(seed: number): Promise<string> {
  const [tables, addresses] = await Promise.all([run("nft", ["list", "tables"]), run("ip", ["-4", "-o", "address", "show"])]);
  for (let step = 0; step < RANGES.length; step += 1) {
    const range = RANGES[(seed + step) % RANGES.length] ?? "";
    const [first, second, third] = range.split(/[./]/).map(Number);
    const isClaimed = tables.stdout.includes(`_${range.replaceAll(/[./]/g, "_")}`);
    const isUsed = [...addresses.stdout.matchAll(/inet (\d+)\.(\d+)\.(\d+)\./g)].some(
      ([, a, b, c]) => Number(a) === first && Number(b) === second && Number(c) >> 4 === (third ?? 0) >> 4,
    );
    if (!isClaimed && !isUsed) return range;
  }
  throw new Error("every range for tests is in use on this host: are there daemons of interrupted runs?");
}
