/**
 * `npm run bench`: measures the product beside its raw baselines and writes JSON and the table of
 * docs/performance.md.
 *
 *   npm run bench -- [--only create,echo] [--rounds 7] [--scale 1] [--no-write]
 *   npm run bench -- --from a.json,b.json      the table from figures of earlier runs; of the same figure that of the last file
 */
import { parseArgs } from "node:util";
import { vmSkipReason } from "../kit/preflight.ts";
import { openBench } from "./bench.ts";
import { MEASURES } from "./measures.ts";
import { describeMachine, readResults, tableOf, writeDocument, writeResults } from "./report.ts";
import type { Figure } from "./rounds.ts";

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "7" },
    scale: { type: "string" },
    "no-write": { type: "boolean", default: false },
    from: { type: "string" },
  },
});
if (values.from !== undefined) {
  const { machine, figures } = await readResults(values.from.split(","));
  await writeDocument(machine, figures);
  console.log(tableOf(figures));
  process.exit(0);
}
const wanted = values.only?.split(",") ?? Object.keys(MEASURES);
const unknown = wanted.filter((id) => !(id in MEASURES));
const rounds = Number(values.rounds);
const scale = values.scale === undefined ? undefined : Number(values.scale);
const isScale = scale === undefined || (scale > 0 && scale <= 1);
if (unknown.length > 0 || !Number.isInteger(rounds) || rounds < 1 || !isScale) {
  console.error(`usage: npm run bench -- [--only ${Object.keys(MEASURES).join(",")}] [--rounds N] [--scale 0…1] [--no-write]`);
  process.exit(64);
}
const reason = vmSkipReason();
if (reason !== undefined) process.exit(69);

const startedMs = performance.now();
const say = (line: string): void => console.error(`${Math.round((performance.now() - startedMs) / 1000)} s  ${line}`);
const figures: Figure[] = [];
let isComplete = true;
let machine;
{
  await using bench = await openBench({ rounds, scale, say });
  for (const id of wanted) {
    say(`measuring ${id} …`);
    try {
      figures.push(...((await MEASURES[id]?.(bench)) ?? []));
    } catch (error) {
      isComplete = false;
      console.error(`${id} failed:`, error);
    }
  }
  const isTcg = bench.template.args.some((arg) => arg.startsWith("tcg"));
  const memory = /^(\d+)M$/.exec(bench.template.args[bench.template.args.indexOf("-m") + 1] ?? "")?.[1];
  machine = describeMachine({
    accelerator: isTcg ? "TCG (emulation)" : "KVM",
    build: bench.version,
    shape: `${bench.template.args[bench.template.args.indexOf("-smp") + 1]} CPU and ${memory} MiB`,
  });
  await bench.daemon.deleteSprites();
}
console.log(tableOf(figures));
say(`written to ${await writeResults(machine, figures)}`);
if (!values["no-write"] && isComplete && values.only === undefined) await writeDocument(machine, figures);
process.exit(isComplete ? 0 : 1);
