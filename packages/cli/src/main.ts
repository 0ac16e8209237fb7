/**
 * Entry of the `sprite` command.
 *
 * Invariants: `--version` loads nothing else; every other command loads only its own module
 * (`program.ts`); whatever ends the process leaves the terminal as it was, because the terminal
 * session restores it in an `exit` hook.
 */
import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";
import manifest from "../package.json" with { type: "json" };

const [first] = process.argv.slice(2);
if (first === "--version" || first === "-V" || first === "-v") {
  process.stdout.write(`sprite ${manifest.version}\n`);
} else {
  // In the user's own directory: a cache in the shared temporary directory could be planted.
  enableCompileCache(join(homedir(), ".cache", "sprite", "v8"));
  const { main } = await import("./program.ts");
  await main(process.argv.slice(2));
}
