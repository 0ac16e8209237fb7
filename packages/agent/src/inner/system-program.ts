/** Short programs of the system image, run in the VM's root. */
import fs from "node:fs";
import net from "node:net";
import { ignore } from "@sprited/base";
import type { ProcessTable } from "../spawn/process-table.ts";
import { pipe } from "../sys/libc.ts";

const OUTPUT_LENGTH_MAX = 2000;

/** Runs a program to its end. Throws with the end of its output when its exit code is not in `okCodes`. */
export async function runHelper(
  processes: ProcessTable,
  file: string,
  args: readonly string[],
  okCodes: readonly number[] = [0],
): Promise<void> {
  const nothing = fs.openSync("/dev/null", "r");
  const { readFd, writeFd } = pipe();
  let child;
  try {
    child = processes.spawn({
      path: file,
      argv: [file, ...args],
      env: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
      stdio: [nothing, writeFd, writeFd],
    });
  } finally {
    fs.closeSync(nothing);
    fs.closeSync(writeFd);
  }
  const output = new net.Socket({ fd: readFd, readable: true, writable: false });
  output.on("error", ignore("what it said is only for the message"));
  let said = "";
  output.on("data", (data: Buffer) => {
    said = (said + data.toString("utf8")).slice(-OUTPUT_LENGTH_MAX);
  });
  const end = await child.ended;
  output.destroy();
  if (end.code === null || !okCodes.includes(end.code))
    throw new Error(`${file} failed (${end.code ?? `signal ${end.signal}`}): ${said.trim()}`);
}
