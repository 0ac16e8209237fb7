/** `sprite completion`: prints what a shell needs to complete commands, flags and names. */
import { Argument } from "@commander-js/extra-typings";
import { completionScript, SHELLS } from "../completion/scripts.ts";
import type { CommandContext } from "./catalogue.ts";
import { completes, newCommand } from "./command.ts";

export function build(_context: CommandContext) {
  const command = newCommand("sprite completion", "Print a script that completes commands, flags, sprites, sessions and jobs with Tab.", [
    ["source <(sprite completion bash)", "bash, this shell only"],
    ["source <(sprite completion zsh)", "zsh, after compinit"],
    ["sprite completion fish | source", "fish, this shell only"],
  ])
    .addArgument(new Argument("<shell>", "which shell").choices(SHELLS))
    .addHelpText(
      "after",
      [
        "",
        "To keep it, write the script where the shell looks for it:",
        "  bash  ~/.local/share/bash-completion/completions/sprite",
        "  zsh   _sprite in a directory of $fpath",
        "  fish  ~/.config/fish/completions/sprite.fish",
      ].join("\n"),
    )
    .action((shell) => void process.stdout.write(completionScript(shell)));
  return completes(command, "shell");
}
