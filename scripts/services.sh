#!/usr/bin/env bash
# The real services behind the tests: a private PostgreSQL, a private RabbitMQ, a Docker Engine.
#
#   scripts/services.sh start [SERVICE…]   starts what does not run yet and writes the env file
#   scripts/services.sh stop [SERVICE…]    stops what this script started, and nothing else
#   scripts/services.sh status             one line a service
#   scripts/services.sh env                prints the path of the env file
#
# SERVICE is postgres, rabbitmq or docker; none means all three. Tests read the env file:
#
#   . "$(scripts/services.sh env)"; cargo nextest run --workspace
#
# State lies in $LONGSHORE_DEV_STATE (default .longshore/dev of the checkout). PostgreSQL and
# RabbitMQ run under their own accounts when we are root and must be able to reach it; where the
# checkout is in a closed directory (a home with mode 0700), /var/tmp is used instead.
set -euo pipefail
here="$(dirname "$0")"
. "$here/lib.sh"

if ((EUID == 0)) && [[ -z "${LONGSHORE_DEV_STATE:-}" ]]; then
  mkdir -p "$dev_state"
  # `nobody` has a group of another name on Debian, so its entry is asked for by id.
  if ! setpriv --reuid=nobody --regid=nogroup --clear-groups -- test -x "$dev_state"; then
    dev_state="/var/tmp/longshore-dev-$(printf %s "$repo" | cksum | cut -d' ' -f1)"
  fi
fi
mkdir -p "$dev_state"

# One at a time: two that start together would each make a database and overwrite the other's.
# --close keeps the daemons from inheriting the lock and holding it as long as they live.
if [[ -z "${_LONGSHORE_SERVICES_LOCKED:-}" && "${1:-}" == @(start|stop) ]]; then
  _LONGSHORE_SERVICES_LOCKED=1 LONGSHORE_DEV_STATE="$dev_state" \
    exec flock --close --timeout 180 "$dev_state/lock" "$0" "$@"
fi

. "$here/services/postgres.sh"
. "$here/services/rabbitmq.sh"
. "$here/services/docker.sh"

env_file="$dev_state/test.env"
command="${1:-status}"
shift || true
services=("$@")
((${#services[@]} > 0)) || services=(postgres rabbitmq docker)
for service in "${services[@]}"; do
  case "$service" in
  postgres | rabbitmq | docker) ;;
  *) die "unknown service $service: postgres, rabbitmq or docker" ;;
  esac
done

write_env() {
  local service
  {
    for service in postgres rabbitmq docker; do
      if [[ "$("${service}_status")" == *running* ]]; then
        "${service}_env"
      fi
    done
  } >"$env_file.new"
  chmod 600 "$env_file.new"
  mv "$env_file.new" "$env_file"
}

case "$command" in
start)
  for service in "${services[@]}"; do
    "${service}_start" test
  done
  write_env
  ;;
stop)
  for service in "${services[@]}"; do
    "${service}_stop" test
  done
  write_env
  ;;
status)
  for service in "${services[@]}"; do
    "${service}_status"
  done
  ;;
env) printf '%s\n' "$env_file" ;;
*) die "usage: $0 start|stop|status|env [postgres|rabbitmq|docker]…" ;;
esac
