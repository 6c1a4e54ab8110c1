#!/usr/bin/env bash
# Does what the README asks of a first user, in a place of its own: `make up`, look at the page, push
# a commit, look again, Ctrl-C, look again, `make down`, and nothing is left.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd -P)"
. "$here/lib.sh"

state="$(mktemp -d)"
log="$state.log"
export LONGSHORE_UP_STATE="$state/up"
setsid "$here/up.sh" >"$log" 2>&1 </dev/null &
up=$!
pid_record "$up" "$state/up.pid"
finish() {
  local code=$?
  trap - EXIT
  pid_end "$state/up.pid" 40
  if ((code != 0)); then
    echo "--- make up" >&2
    tail -n 60 "$log" >&2
  fi
  "$here/down.sh" >>"$log" 2>&1 || { tail -n 20 "$log" >&2; code=1; }
  rm -rf "$state" "$log"
  exit "$code"
}
trap finish EXIT

says() { curl -fsS -m 2 "$1" | grep -F "$2"; }
told() { pid_is_gone "$state/up.pid" || grep -q 'Ctrl-C stops' "$log"; }
# It builds, which on a machine of two cores may take minutes.
if ! wait_until 900 told || pid_is_gone "$state/up.pid"; then
  die "make up did not get as far as its last words"
fi

app="$(sed -n 's/^  hello  *\(http.*\)$/\1/p' "$log" | tail -n 1)"
[[ -n "$app" ]] || die "make up printed no address of hello"
wait_until 30 says "$app" 'version 1' || die "hello does not answer at $app"
note "hello answers at $app"

sed -i 's/version 1/version 2/' "$LONGSHORE_UP_STATE/hello/www/index.html"
git -C "$LONGSHORE_UP_STATE/hello" commit -qam 'Version 2'
git -C "$LONGSHORE_UP_STATE/hello" push -q
wait_until 90 says "$app" 'version 2' || die "a pushed commit was not deployed"
note "a pushed commit runs by itself"

id="$(graphql "$(cat "$LONGSHORE_UP_STATE/run/url")" "$LONGSHORE_UP_STATE/data/admin-token" \
  '{ deployment(name: "hello") { id } }' | jq -er .deployment.id)"
[[ -n "$(docker ps -q --filter "label=longshore.deployment=$id")" ]] || die "no container of hello carries its label"

# A shell that was started in the background ignores SIGINT, so this is the other polite signal;
# up.sh treats both alike.
kill -TERM "$up"
wait "$up" || die "make up ended with exit code $?"
says "$app" 'version 2' >/dev/null || die "hello stopped with make up"
note "hello goes on without make up"

"$here/down.sh" >>"$log" 2>&1 || die "make down failed: $(tail -n 5 "$log")"
for kind in "ps -a" "network ls" "image ls"; do
  # shellcheck disable=SC2086 # two words on purpose
  left="$(docker $kind -q --filter "label=longshore.deployment=$id")"
  [[ -z "$left" ]] || die "make down left something of docker $kind: $left"
done
[[ ! -e "$LONGSHORE_UP_STATE" ]] || die "make down left $LONGSHORE_UP_STATE"
note "make down leaves nothing"
