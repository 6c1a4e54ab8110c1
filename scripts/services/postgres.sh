# shellcheck shell=bash disable=SC2154 # the paths are lib.sh's
# A private PostgreSQL: its own data directory, a free port on 127.0.0.1, no Unix socket. It never
# syncs to disk, which is several times faster and right for data that no test wants to keep; a
# benchmark asks for the real thing with LONGSHORE_POSTGRES_DURABLE=1.

pg="$dev_state/postgres"

postgres_bin() {
  local newest
  newest="$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)"
  [[ -x "$newest/initdb" ]] || die "PostgreSQL is not installed: run scripts/install.sh test"
  printf '%s\n' "$newest"
}

postgres_ready() { "$(postgres_bin)/pg_isready" -q -h 127.0.0.1 -p "$(cat "$pg/port")"; }

postgres_start() {
  if pid_of "$pg/pid" >/dev/null && postgres_ready; then
    return 0
  fi
  local bin port
  local -a speed=(-c fsync=off -c synchronous_commit=off -c full_page_writes=off)
  [[ -z "${LONGSHORE_POSTGRES_DURABLE:-}" ]] || speed=(-c max_wal_size=4GB)
  bin="$(postgres_bin)"
  rm -rf "$pg"
  mkdir -p "$pg"
  random_secret >"$pg/password"
  free_port && port=$REPLY
  echo "$port" >"$pg/port"
  ((EUID != 0)) || chown -R postgres:postgres "$pg"
  as_user postgres "$bin/initdb" -D "$pg/data" -U longshore --pwfile="$pg/password" -A scram-sha-256 \
    --no-sync -E UTF8 --locale=C.UTF-8 >"$pg/initdb.log" 2>&1 || { cat "$pg/initdb.log" >&2; die "initdb failed"; }
  as_user postgres "$bin/pg_ctl" -D "$pg/data" -w -t 60 -l "$pg/data/server.log" -o "-p $port \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300 \
    ${speed[*]}" start >/dev/null </dev/null ||
    { cat "$pg/data/server.log" >&2; die "PostgreSQL did not start"; }
  pid_record "$(head -n 1 "$pg/data/postmaster.pid")" "$pg/pid"
  wait_until 30 postgres_ready || die "PostgreSQL started but does not answer on port $port"
  note "PostgreSQL: started on 127.0.0.1:$port"
}

postgres_stop() {
  # SIGINT is PostgreSQL's fast shutdown: it ends sessions instead of waiting for them.
  [[ ! -e "$pg/pid" ]] || { pid_end "$pg/pid" 30 INT && note "PostgreSQL: stopped"; }
  rm -rf "$pg"
}

postgres_status() {
  local pid
  if pid="$(pid_of "$pg/pid")"; then
    printf 'postgres   running, pid %s, port %s\n' "$pid" "$(cat "$pg/port")"
  else
    printf 'postgres   stopped\n'
  fi
}

postgres_env() {
  printf 'export LONGSHORE_TEST_DATABASE_URL=postgres://longshore:%s@127.0.0.1:%s/postgres\n' \
    "$(cat "$pg/password")" "$(cat "$pg/port")"
}
