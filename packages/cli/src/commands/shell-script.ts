/**
 * What `sprite console` runs: a small POSIX script that becomes the shell, so that opening a
 * console takes one command and not two.
 *
 * - The shell is the user's own of `/etc/passwd` (found by the home directory), else the first of
 *   a list that is there, else `/bin/sh`.
 * - A `TERM` that the sprite has no description of becomes `xterm-256color`; otherwise full-screen
 *   programs refuse to start under newer terminals.
 *
 * It uses no program but the shell itself: in an emulated machine each one would cost tens of ms.
 */
const SCRIPT = `
rest=\${TERM#?}
first=\${TERM%"$rest"}
known=
for dir in "$HOME/.terminfo" /etc/terminfo /lib/terminfo /usr/share/terminfo /usr/lib/terminfo; do
  [ -e "$dir/$first/$TERM" ] && known=1
done
if [ -z "$known" ] && { [ -d /lib/terminfo ] || [ -d /usr/share/terminfo ]; }; then
  TERM=xterm-256color
  export TERM
fi
own=
while IFS=: read -r _ _ _ _ _ home shell; do
  [ "$home" = "$HOME" ] && own=$shell
done 2>/dev/null </etc/passwd
for name in "$own" "$@"; do
  case $name in "" | */nologin | */false | /bin/sh) continue ;; esac
  path=$(command -v "$name") || continue
  [ -x "$path" ] || continue
  SHELL=$path
  export SHELL
  exec "$path" -l
done
SHELL=/bin/sh
export SHELL
exec /bin/sh
`.trim();

/** How much of the script tells it from others, characters. */
const TELLING = 60;

/** Whether a session's command, as servers show it, is a console's shell. */
export function isShellCommand(command: string): boolean {
  return command.startsWith(`/bin/sh -c ${SCRIPT.slice(0, TELLING)}`);
}

/** Arguments of the console's command. */
export const SHELL_ARGV: readonly string[] = ["/bin/sh", "-c", SCRIPT, "console", "bash", "zsh", "fish", "tcsh", "ksh"];
