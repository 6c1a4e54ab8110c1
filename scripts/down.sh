#!/usr/bin/env bash
# `make down`: removes everything that `make up` made. Deployments go through the API, so that
# Longshore itself cleans up after them; it is started for that if it does not run. If it cannot be
# asked, what carries the labels of its deployments is removed by hand.
set -euo pipefail
here="$(dirname "$0")"
. "$here/lib.sh"
. "$here/services/docker.sh"
PATH="$PATH:$HOME/.cargo/bin"

data="$up_state/data"
run="$up_state/run"
longshore="$(cargo_out "${LONGSHORE_PROFILE:-dev}")/longshore"

# The process that holds the applications' ports outlives the server, on purpose. Ours is the one that
# was given a path below our data directory.
end_forwarder() {
  local process arguments
  for process in /proc/[0-9]*; do
    mapfile -d '' -t arguments 2>/dev/null <"$process/cmdline" || continue
    if [[ "${arguments[0]:-}" == */longshore && "${arguments[1]:-}" == forward &&
      "${arguments[*]}" == *"$data/"* ]]; then
      pid_record "${process#/proc/}" "$run/forward.pid"
      pid_end "$run/forward.pid" 10
    fi
  done
}

finish() {
  pid_end "$run/server.pid" 30
  pid_end "$run/git.pid" 5
}

# Leaves the server's address in $url, and starts it where it does not run.
server_ensure() {
  if pid_of "$run/server.pid" >/dev/null; then
    url="$(cat "$run/url")"
    return 0
  fi
  [[ -d "$data" && -x "$longshore" ]] || return 1
  note "starting Longshore for a moment, to let it clean up"
  free_port
  url="http://127.0.0.1:$REPLY"
  setsid "$longshore" standalone --data-dir "$data" --listen "127.0.0.1:$REPLY" \
    >"$run/down.log" 2>&1 </dev/null &
  pid_record "$!" "$run/server.pid"
  ready() { pid_is_gone "$run/server.pid" || curl -fsS -m 2 "$url/readyz"; }
  wait_until 60 ready && pid_of "$run/server.pid" >/dev/null
}

# Prints "ID NAME" for each deployment that is not destroyed.
deployments() {
  graphql "$url" "$data/admin-token" '{ deployments(first: 100) { nodes { id name status } } }' |
    jq -r '.deployments.nodes[] | select(.status != "DESTROYED") | "\(.id) \(.name)"'
}
none_left() {
  local left
  left="$(deployments)" && [[ -z "$left" ]]
}

destroy_all() {
  export LONGSHORE_URL="$url" LONGSHORE_TOKEN
  LONGSHORE_TOKEN="$(cat "$data/admin-token")"
  local id name
  # Kept for the sweep: after this the server may no longer be there to ask.
  deployments >"$run/deployments" || return 1
  while read -r id name; do
    note "destroying $name"
    "$longshore" deployment destroy "$name" --yes >/dev/null </dev/null || warn "$name could not be destroyed"
  done <"$run/deployments"
  wait_until 120 none_left
}

# Removes what still carries the label of one deployment of ours, and nothing else.
sweep() {
  local filter="label=longshore.deployment=$1"
  docker ps -aq --filter "$filter" | xargs -r docker rm -f -v
  docker network ls -q --filter "$filter" | xargs -r docker network rm
  docker volume ls -q --filter "$filter" | xargs -r docker volume rm
  docker image ls -q --filter "$filter" | sort -u | xargs -r docker image rm -f
} >/dev/null

mkdir -p "$run"
trap finish EXIT
if [[ -d "$data" ]] && engine_answers; then
  step "Removing what is deployed"
  if ! { server_ensure && destroy_all; }; then
    warn "Longshore could not do it all (see $run/down.log); removing by label"
  fi
  [[ ! -s "$run/deployments" ]] || while read -r id _; do sweep "$id"; done <"$run/deployments"
fi

step "Stopping Longshore and removing its data"
finish
end_forwarder
docker_stop up
rm -rf "$data" "$run" "$up_state/git" "$up_state/hello"
rmdir "$up_state" 2>/dev/null || true
left="$({ engine_answers && docker ps -aq --filter label=longshore.deployment; } 2>/dev/null || true)"
if [[ -n "$left" ]]; then
  warn "containers of other Longshore deployments are on this Engine and were left alone: $(echo "$left" | tr '\n' ' ')"
fi
note "base images and ~/.cache/longshore stay, for the next time"
