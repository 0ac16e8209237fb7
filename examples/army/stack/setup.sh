#!/bin/sh
# Prepares the stack once: a PostgreSQL cluster with data, on its default port.
set -eu
cd "$HOME/stack"
PATH="$(echo /usr/lib/postgresql/*/bin):$PATH"
[ -d "$HOME/pgdata" ] || initdb --pgdata "$HOME/pgdata" --auth trust --username sprite >/dev/null
pg_ctl --pgdata "$HOME/pgdata" --log "$HOME/postgres.log" --wait --options "-k /tmp -c fsync=off" start
createdb --host /tmp shop
psql --host /tmp --quiet --set ON_ERROR_STOP=1 shop <schema.sql
./start.sh
