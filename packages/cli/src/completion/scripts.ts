/**
 * The scripts that teach a shell to complete `sprite`. They hold no knowledge of commands: every
 * Tab asks `sprite __complete`, so they never grow old.
 */

export type Shell = "bash" | "zsh" | "fish";

export const SHELLS: readonly Shell[] = ["bash", "zsh", "fish"];

const BASH = `# bash completion for sprite
# once:    source <(sprite completion bash)
# always:  sprite completion bash > ~/.local/share/bash-completion/completions/sprite

_sprite() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == :files ]]; then
      compopt -o default 2>/dev/null
      COMPREPLY=()
      return
    fi
    COMPREPLY+=("\${line%%$'\\t'*}")
  done < <(command "\${1:-sprite}" __complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}

complete -F _sprite sprite
`;

const ZSH = `#compdef sprite
# zsh completion for sprite
# once:    source <(sprite completion zsh)
# always:  sprite completion zsh > "\${fpath[1]}/_sprite"

_sprite() {
  local line value
  local -a lines offers
  lines=("\${(@f)$(command "\${words[1]}" __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ \${lines[1]} == :files ]]; then
    _files
    return
  fi
  for line in "\${lines[@]}"; do
    [[ -n $line ]] || continue
    value=\${line%%$'\\t'*}
    offers+=("\${value//:/\\\\:}:\${line#*$'\\t'}")
  done
  (( \${#offers} )) && _describe -t sprite sprite offers
}

if [[ \${funcstack[1]} == _sprite ]]; then
  _sprite "$@"
else
  compdef _sprite sprite
fi
`;

const FISH = `# fish completion for sprite
# once:    sprite completion fish | source
# always:  sprite completion fish > ~/.config/fish/completions/sprite.fish

function __sprite_complete
    set -l words (commandline -opc)
    set -l program $words[1]
    set -e words[1]
    set -l current (commandline -ct)
    set -l lines (command $program __complete $words "$current" 2>/dev/null)
    if test "$lines[1]" = :files
        __fish_complete_path "$current"
    else
        printf '%s\\n' $lines
    end
end

complete -c sprite -f -a '(__sprite_complete)'
`;

const SCRIPTS: Record<Shell, string> = { bash: BASH, zsh: ZSH, fish: FISH };

/** The script for `shell`. */
export function completionScript(shell: Shell): string {
  return SCRIPTS[shell];
}
