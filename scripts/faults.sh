#!/usr/bin/env bash
# Runs the fault suite and prints its table: fault, outcome, seconds to converge.
#
#   scripts/faults.sh                     every fault, also those that take minutes
#   scripts/faults.sh 'test(chaos)'       those that a filter of nextest selects
#
# It needs the test services (scripts/services.sh start), the image busybox, and root: some faults
# make network namespaces and small disks, or start services of their own, which end with the test.
set -uo pipefail
here="$(cd "$(dirname "$0")" && pwd -P)"
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
PATH="$PATH:$HOME/.cargo/bin"
cd "$repo" || exit 1
# shellcheck disable=SC1090 # written by services.sh
. "$("$here/services.sh" env)"

LONGSHORE_FAULTS_TABLE="$(mktemp)"
export LONGSHORE_FAULTS_TABLE
trap 'rm -f "$LONGSHORE_FAULTS_TABLE"' EXIT
cargo nextest run --workspace --locked --profile faults ${1:+-E "$1"}
code=$?

printf '\n%-75s %-14s %9s\n' fault outcome 'seconds'
sort "$LONGSHORE_FAULTS_TABLE" | while IFS=$'\t' read -r name outcome seconds; do
  printf '%-75s %-14s %9s\n' "$name" "$outcome" "$seconds"
done
exit "$code"
