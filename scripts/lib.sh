# shellcheck shell=bash
# Helpers that every script here shares. Sourced, never run: it defines functions and three paths.

# The checkout that this file lies in.
repo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
# What `make up` keeps: the server's data and the Git repository it deploys from.
up_state="${LONGSHORE_UP_STATE:-$repo/.longshore}"
# What the test services keep: data, logs, pid files and the env file that the tests read.
dev_state="${LONGSHORE_DEV_STATE:-$repo/.longshore/dev}"
export repo up_state dev_state

if [[ -t 2 && -z "${NO_COLOR:-}" ]]; then
  _bold=$'\e[1m' _red=$'\e[31m' _dim=$'\e[2m' _off=$'\e[0m'
else
  _bold='' _red='' _dim='' _off=''
fi

# Progress goes to stderr, so that a script's stdout stays its answer.
step() { printf '%s==> %s%s\n' "$_bold" "$*" "$_off" >&2; }
note() { printf '    %s%s%s\n' "$_dim" "$*" "$_off" >&2; }
warn() { printf '%swarning:%s %s\n' "$_red" "$_off" "$*" >&2; }
die() {
  printf '%serror:%s %s\n' "$_red" "$_off" "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root: directly, or through sudo.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif have sudo; then
    sudo -- "$@"
  else
    die "this step needs root, and sudo is not installed: run it as root, or do by hand: $*"
  fi
}

# as_user USER COMMAND…: runs a daemon under its own account when we are root (Postgres refuses
# root), and as ourselves when we are not.
as_user() {
  local user="$1"
  shift
  if ((EUID == 0)); then
    # From /, because the account may not enter the directory we are in.
    (cd / && setpriv --reuid="$user" --regid="$user" --init-groups -- "$@")
  else
    "$@"
  fi
}

# Milliseconds since the epoch.
now_ms() { date +%s%3N; }

# wait_until SECONDS COMMAND…: polls the command until it succeeds. No sleep stands in for a
# condition anywhere in these scripts; this is the only loop that waits.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

port_is_free() { [[ -z "$(ss -Hltn "sport = :$1")" ]]; }

# Prints a TCP port nobody listens on and that no earlier call of this process printed. It is taken
# from below Linux's ephemeral range, so that no outgoing connection can grab it before its owner binds.
declare -A _ports_given=()
free_port() {
  local port
  for _ in {1..500}; do
    port=$((15000 + RANDOM % 10000))
    if [[ -z "${_ports_given[$port]:-}" ]] && port_is_free "$port"; then
      _ports_given[$port]=1
      # Set as well as printed: a caller that asks for several uses the variable, because a
      # subshell would forget which ones were given.
      REPLY=$port
      return 0
    fi
  done
  die "no free TCP port between 15000 and 24999"
}

# A process id alone may belong to a stranger after a reboot or a crash, so a pid file holds the id
# and the process's start time, and only the pair counts.
_start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
pid_record() { printf '%s %s\n' "$1" "$(_start_time "$1")" >"$2"; }

# Prints the process id in a pid file if that very process is still alive.
pid_of() {
  local pid started
  [[ -r "$1" ]] && read -r pid started <"$1" || return 1
  [[ -n "$started" && "$(_start_time "$pid")" == "$started" ]] || return 1
  # A zombie has ended; only its parent has not noticed yet.
  [[ "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -c1)" != Z ]] || return 1
  printf '%s\n' "$pid"
}

pid_is_gone() { ! pid_of "$1" >/dev/null; }

# pid_end FILE SECONDS [SIGNAL]: asks the process of a pid file to end, waits until it has, and
# kills it when it has not ended in time.
pid_end() {
  local pid
  if pid="$(pid_of "$1")"; then
    as_owner_kill "${3:-TERM}" "$pid"
    if ! wait_until "$2" pid_is_gone "$1"; then
      warn "process $pid did not end within $2 s: killing it"
      as_owner_kill KILL "$pid"
      wait_until 10 pid_is_gone "$1" || warn "process $pid cannot be killed"
    fi
  fi
  rm -f "$1"
}

# Signals a process, with root's help only where it is not ours.
as_owner_kill() { kill "-$1" "$2" 2>/dev/null || as_root kill "-$1" "$2"; }

random_secret() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# Whether a Docker Engine answers where the docker client (or DOCKER_HOST) points.
engine_answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# graphql URL TOKEN-FILE QUERY: prints the answer's data. The token goes through a pipe: arguments are
# there for everybody to see.
graphql() {
  jq -n --arg query "$3" '{query: $query}' |
    curl -fsS -m 30 -H @<(printf 'Authorization: Bearer %s\n' "$(cat "$2")") \
      -H 'Content-Type: application/json' --data @- "$1/graphql" |
    jq -e 'if .errors then error(.errors[0].message) else .data end'
}

# The directory where a cargo profile leaves its binaries (dev's is called debug).
cargo_out() {
  local profile="$1"
  [[ "$profile" == dev ]] && profile=debug
  printf '%s/%s\n' "${CARGO_TARGET_DIR:-$repo/target}" "$profile"
}
