/** `sprite logout`: removes everything that `login` stored. */
import { removeAccounts } from "../settings/accounts.ts";
import { readEnvironment } from "../settings/environment.ts";
import { newCommand } from "./command.ts";

export function build() {
  return newCommand("sprite logout", "Remove all stored tokens and settings. The files .sprite of directories stay.", [
    ["sprite logout", "forget every server"],
    ["sprite org logout", "only the tokens"],
  ]).action(() => {
    process.stdout.write(
      removeAccounts(readEnvironment().settingsDir) ? "logged out; all settings are removed\n" : "there was nothing to remove\n",
    );
  });
}
