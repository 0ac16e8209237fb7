/** Questions to the user, asked on standard error so that standard output stays clean. */
import { createInterface } from "node:readline/promises";
import { CliError, EXIT_SIGNAL_BASE } from "./cli-error.ts";

/** Longest secret that is read, bytes. */
const SECRET_BYTES_MAX = 64 * 1024;
const INTERRUPTED = EXIT_SIGNAL_BASE + 2;

/** Asks a question that only `y` or `yes` affirms. */
export async function confirm(question: string): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const closed = new Promise<string>((resolve) => lines.once("close", () => resolve("")));
    const interrupted = new Promise<never>((_, reject) =>
      lines.once("SIGINT", () => reject(new CliError("Interrupted.", { exitCode: INTERRUPTED }))),
    );
    const answer = await Promise.race([lines.question(`${question} [y/N] `), closed, interrupted]);
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    lines.close();
  }
}

/** Reads a secret: from the terminal without showing it, else all of standard input. */
export async function readSecret(question: string): Promise<string> {
  return process.stdin.isTTY ? await typedSecret(question) : await pipedSecret();
}

async function pipedSecret(): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin) {
    bytes += (chunk as Uint8Array).length;
    if (bytes > SECRET_BYTES_MAX) throw new CliError("Standard input is too long to be a token.", { hint: "Pipe in the token alone." });
    pieces.push(chunk as Uint8Array);
  }
  return Buffer.concat(pieces).toString("utf8").trim();
}

async function typedSecret(question: string): Promise<string> {
  process.stderr.write(question);
  process.stdin.setRawMode(true);
  try {
    let typed = "";
    for await (const chunk of process.stdin) {
      for (const key of Buffer.from(chunk as Uint8Array).toString("utf8")) {
        if (key === "\r" || key === "\n" || key === "\x04") return typed.trim();
        if (key === "\x03") throw new CliError("Interrupted.", { exitCode: INTERRUPTED });
        if (key === "\x7f" || key === "\b") typed = typed.slice(0, -1);
        else if (key === "\x15") typed = "";
        else if (key >= " ") typed += key;
      }
      if (typed.length > SECRET_BYTES_MAX) throw new CliError("That is too long to be a token.");
    }
    return typed.trim();
  } finally {
    process.stdin.setRawMode(false);
    process.stderr.write("\n");
  }
}
