#!/usr/bin/env bash
# `make test`: everything CI checks, on any machine. Installs and starts what is missing, and stops
# what it started, also after a failure. A step that fails does not hide the next ones: what does not
# depend on it still runs, and the table at the end tells all.
set -uo pipefail
here="$(cd "$(dirname "$0")" && pwd -P)"
. "$here/lib.sh"
PATH="$PATH:$HOME/.cargo/bin"
cd "$repo" || exit 1
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
# Tests must not meet the settings of whoever runs them; where the services lie is not one of those.
for variable in "${!LONGSHORE_@}"; do
  [[ "$variable" == LONGSHORE_DEV_STATE ]] || unset "$variable"
done

# A failure is decided by exit codes alone; these three arrays only remember them.
names=() results=() times=()
declare -A result_of=()

# step_run NAME [after OTHER…] -- COMMAND…
step_run() {
  local name="$1" dependency started code result=ok
  shift
  while [[ "$1" != -- ]]; do
    dependency="$1"
    shift
    if [[ "$dependency" != after && "${result_of[$dependency]:-}" != ok ]]; then
      remember "$name" "skipped: needs $dependency" 0
      return
    fi
  done
  shift
  step "$name"
  started="$(now_ms)"
  # A subshell lets a step change directory and exit. It must not be the condition of an `if`, where
  # bash would ignore set -e.
  (
    set -e
    "$@"
  ) </dev/null
  code=$?
  ((code == 0)) || result="FAILED (exit code $code)"
  remember "$name" "$result" "$(($(now_ms) - started))"
}
remember() {
  names+=("$1") results+=("$2") times+=("$3")
  result_of[$1]="$2"
}

base_images_begin() {
  "$here/base-images.sh" >"$scratch/base-images.log" 2>&1 &
  base_images_pid=$!
}
base_images_end() { cat "$scratch/base-images.log" >&2; }

unwanted_dependencies() {
  local crate output
  # Only tests can end a process at a named place; what is released has no such places.
  if output="$(cargo tree -p cli --locked -e no-dev --target all -i fail 2>&1)" &&
    [[ "$output" != *"nothing to print"* ]]; then
    printf '%s\n' "$output" >&2
    return 1
  fi
  # One TLS library for Rust (ring): with a second one rustls cannot choose, and this one needs a C
  # compiler for minutes. serde_yml is unsound and abandoned.
  for crate in aws-lc-rs native-tls serde_yml; do
    if output="$(cargo tree --workspace --locked --target all -i "$crate" 2>&1)"; then
      # cargo says "nothing to print" and succeeds for what is in the lock file but never built.
      [[ "$output" == *"nothing to print"* ]] || { printf '%s\n' "$output" >&2; return 1; }
    elif [[ "$output" != *"did not match any packages"* ]]; then
      printf '%s\n' "$output" >&2
      return 1
    fi
  done
}

graphql_audits() {
  cd tests/audit
  npm ci --no-audit --no-fund --loglevel=error
  node audit.mjs "$(cargo_out dev)/longshore"
}

compose_files() {
  local compose=(docker-compose -f compose/docker-compose.yml)
  sed 's/=$/=secret/' compose/.env.example >"$scratch/full.env"
  "${compose[@]}" --env-file "$scratch/full.env" config -q
  # Without its secrets the fleet must not start with empty ones.
  local secret answer
  for secret in POSTGRES_PASSWORD RABBITMQ_PASSWORD LONGSHORE_ADMIN_TOKEN; do
    sed "s/^$secret=.*/$secret=/" "$scratch/full.env" >"$scratch/empty.env"
    if answer="$("${compose[@]}" --env-file "$scratch/empty.env" config -q 2>&1)"; then
      echo "docker-compose accepts compose/ with an empty $secret" >&2
      return 1
    fi
    [[ "$answer" == *"$secret"* ]] || { echo "$answer" >&2; return 1; }
  done
}

shell_scripts() {
  local file
  for file in scripts/*.sh scripts/*/*.sh compose/*.sh .ci/run; do
    bash -n "$file"
  done
  shellcheck scripts/*.sh scripts/*/*.sh compose/*.sh .ci/run
}

tests() {
  # shellcheck disable=SC1090 # written by services.sh
  . "$("$here/services.sh" env)"
  cargo nextest run --workspace --locked --profile ci
}

scratch="$(mktemp -d)"
base_images_pid=''
already="$("$here/services.sh" status)"
finish() {
  trap - EXIT INT TERM
  local service
  [[ -z "$base_images_pid" ]] || kill "$base_images_pid" 2>/dev/null
  # What ran before stays: a person may be working with it. An Engine that others use stays as well,
  # but no longer on our account.
  for service in postgres rabbitmq; do
    [[ "$(grep "^$service " <<<"$already")" == *running* ]] || "$here/services.sh" stop "$service"
  done
  [[ "$already" == *'used here'* ]] || "$here/services.sh" stop docker
  rm -rf "$scratch"
}
trap finish EXIT
trap 'finish; exit 130' INT TERM

step_run install -- "$here/install.sh" test
step_run services after install -- "$here/services.sh" start
# Downloads and unpacks while the compiler works; waited for before the first test that needs it.
[[ "${result_of[services]}" != ok ]] || base_images_begin
step_run format -- cargo fmt --all --check
step_run clippy -- cargo clippy --workspace --all-targets --locked -- -D warnings
step_run dependencies -- unwanted_dependencies
step_run scripts after install -- shell_scripts
if [[ -n "$base_images_pid" ]]; then
  wait "$base_images_pid"
  base_images_code=$?
  base_images_pid=''
  base_images_end
  step_run base-images -- test "$base_images_code" -eq 0
fi
step_run tests after services base-images -- tests
# The tests built it; a build of its own would only compile it again with other features.
step_run binary -- test -x "$(cargo_out dev)/longshore"
step_run graphql-audits after binary services -- graphql_audits
step_run compose-files after install -- compose_files
step_run compose-image after binary base-images -- compose/build-image.sh
step_run make-up after binary base-images -- "$here/test-up.sh"
finish

printf '\n'
failed=0
for i in "${!names[@]}"; do
  printf '%-16s %7s s  %s\n' "${names[i]}" "$(printf '%d.%d' $((times[i] / 1000)) $((times[i] % 1000 / 100)))" "${results[i]}"
  [[ "${results[i]}" == ok ]] || failed=1
done
printf '%-16s %7s s\n' total "$SECONDS"
exit "$failed"
