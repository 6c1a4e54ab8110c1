#!/usr/bin/env bash
# `make up`: from a fresh machine to a deployed application, in the foreground.
#
# Ctrl-C stops the server and the Git repository's web server. What was deployed goes on running, and
# the next `make up` finds it again. `make down` removes everything.
set -euo pipefail
here="$(dirname "$0")"
. "$here/lib.sh"
. "$here/git-server.sh"
. "$here/services/docker.sh"
PATH="$PATH:$HOME/.cargo/bin"

data="$up_state/data"
run="$up_state/run"
work="$up_state/hello"
bare="$up_state/git/hello.git"
# A development build: on two cores it takes three minutes from nothing, an optimised one two to
# three times that, and what a first user waits for is this. The database, Git and the Engine do the
# work of a deploy either way. For real use: `cargo build --release`.
profile="${LONGSHORE_PROFILE:-dev}"
longshore="$(cargo_out "$profile")/longshore"

mkdir -p "$run"
if pid="$(pid_of "$run/server.pid")"; then
  die "it is already running (process $pid) at $(cat "$run/url"); \`make down\` ends and removes it"
fi

stop() {
  trap - EXIT INT TERM
  # The server has a session of its own, so that the terminal's Ctrl-C does not reach it a second time.
  if pid_of "$run/server.pid" >/dev/null; then
    printf '\n' >&2
    step "Stopping Longshore; what it deployed goes on running"
    pid_end "$run/server.pid" 30
  fi
  pid_end "$run/git.pid" 5
}
trap stop EXIT
trap 'stop; exit 0' INT TERM

step "Looking for what is missing"
"$here/install.sh" up

step "Building Longshore (the first time takes some minutes)"
cd "$repo"
cargo build --locked --profile "$profile" --bin longshore

step "Docker Engine and base images"
docker_start up
# Only what examples/hello is built from; the others are made when somebody needs them.
"$here/base-images.sh" busybox

step "A Git repository of examples/hello"
git_repository_make "$repo/examples/hello" "$bare" "$work"
# The port is part of the deployment's Git URL, so it stays the same from one run to the next.
if [[ ! -s "$run/git-port" ]]; then
  free_port
  echo "$REPLY" >"$run/git-port"
fi
git_port="$(cat "$run/git-port")"
port_is_free "$git_port" || die "port $git_port, where hello's Git repository is served, is taken by another program"
git_server_start "$up_state/git" "$git_port" "$run/git.pid" "$run/git.log"
git_url="$(git_server_url "$git_port" hello.git)"

port=8080
if ! port_is_free "$port"; then
  free_port && port=$REPLY
  note "port 8080 is taken, so this is on port $port"
fi
url="http://127.0.0.1:$port"
echo "$url" >"$run/url"

step "Starting Longshore on $url"
setsid "$longshore" standalone --data-dir "$data" --listen "127.0.0.1:$port" </dev/null &
server=$!
pid_record "$server" "$run/server.pid"
ready() { pid_is_gone "$run/server.pid" || curl -fsS -m 2 "$url/readyz"; }
wait_until 60 ready || die "Longshore did not get ready within a minute: $(curl -sS -m 2 "$url/readyz" 2>&1)"
pid_of "$run/server.pid" >/dev/null || die "Longshore ended; its last lines above say why"

export LONGSHORE_URL="$url" LONGSHORE_TOKEN
LONGSHORE_TOKEN="$(cat "$data/admin-token")"
hello() { graphql "$url" "$data/admin-token" '{ deployment(name: "hello") { status url } }' | jq -er ".deployment.$1 // empty"; }

status="$(hello status || true)"
if [[ -n "$status" && "$status" != DESTROYED ]]; then
  step "hello is deployed already ($status)"
else
  step "Deploying hello from $git_url"
  "$longshore" deploy hello --git "$git_url" --poll-seconds 5 --wait || die "hello was not deployed (exit code $?)"
fi

cat >&2 <<BANNER

  ${_bold}hello${_off}      $(hello url || echo 'has no address yet: longshore deployment show hello')
  ${_bold}GraphiQL${_off}   $url/graphiql
  ${_bold}token${_off}      $data/admin-token

  Push a commit, and the next version runs by itself a few seconds later:

    sed -i 's/version 1/version 2/' $work/www/index.html
    git -C $work commit -qam 'Version 2' && git -C $work push

  See more, from another terminal:

    export LONGSHORE_URL=$url LONGSHORE_TOKEN=\$(cat $data/admin-token)
    $longshore deployment list
    $longshore deployment logs hello

  Ctrl-C stops Longshore and leaves hello running; \`make down\` removes everything.

BANNER

code=0
wait "$server" || code=$?
die "Longshore ended by itself (exit code $code)"
