/**
 * A program that writes a log for ever and says on its output what is safe; to be killed.
 * Arguments: directory. Byte at offset N of both streams is N modulo 251.
 */
import { silentLogger } from "@sprited/base";
import { FileLog } from "../log/index.ts";

const log = new FileLog({ directory: process.argv[2] ?? "", bytesMax: 4 * 1024 * 1024, logger: silentLogger });
log.onSafe(() => process.stdout.write(`${JSON.stringify(log.safe)}\n`));
for (let round = 0; ; round += 1) {
  const stream = round % 3 === 0 ? "stderr" : "stdout";
  const offset = log.offsets[stream];
  log.append({ stream, offset, data: Uint8Array.from({ length: 1 + ((round * 7919) % 5000) }, (_, at) => (offset + at) % 251) });
  if (log.isFull) await log.room();
  else if (round % 5 === 0) await new Promise<void>((resolve) => setImmediate(resolve));
}
