#!/bin/sh
# Starts API and web front end, or starts them anew, each on its default port.
set -eu
cd "$HOME/stack"
for part in api web; do
  [ -f "$HOME/$part.pid" ] && kill "$(cat "$HOME/$part.pid")" 2>/dev/null || true
  setsid node "$part.mjs" >"$HOME/$part.log" 2>&1 </dev/null &
  echo $! >"$HOME/$part.pid"
done
for port in 3000 8080; do
  n=0
  until curl --silent --fail --output /dev/null "http://localhost:$port/"; do
    n=$((n + 1))
    [ "$n" -lt 120 ] || { echo "nothing answers on port $port" >&2; exit 1; }
    sleep 0.5
  done
done
