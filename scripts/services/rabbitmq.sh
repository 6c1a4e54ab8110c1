# shellcheck shell=bash disable=SC2154 # the paths are lib.sh's
# A private RabbitMQ with the management API, on free ports of 127.0.0.1, with an Erlang node name
# and a port mapper (epmd) of its own, so that it cannot meet another broker of this machine.
#
# The packaged /usr/sbin/rabbitmq-server and rabbitmqctl are not used: the first changes to the
# system's directories and accounts, the second costs a second a call. Readiness and everything
# else is asked of the management API.

rabbit="$dev_state/rabbitmq"

rabbitmq_ready() {
  curl -fsS -m 2 -K "$rabbit/curlrc" "http://127.0.0.1:$(cat "$rabbit/management-port")/api/health/checks/virtual-hosts"
}

rabbitmq_start() {
  if pid_of "$rabbit/pid" >/dev/null && rabbitmq_ready >/dev/null 2>&1; then
    return 0
  fi
  [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] ||
    die "RabbitMQ is not installed: run scripts/install.sh test"
  rabbitmq_stop
  mkdir -p "$rabbit"
  local amqp management prometheus dist epmd password
  free_port && amqp=$REPLY
  free_port && management=$REPLY
  free_port && prometheus=$REPLY
  free_port && dist=$REPLY
  free_port && epmd=$REPLY
  password="$(random_secret)"
  printf '%s\n' "$amqp" >"$rabbit/port"
  printf '%s\n' "$management" >"$rabbit/management-port"
  printf '%s\n' "$epmd" >"$rabbit/epmd-port"
  printf '%s\n' "$password" >"$rabbit/password"
  printf 'user = "longshore:%s"\n' "$password" >"$rabbit/curlrc"
  printf '[rabbitmq_management,rabbitmq_auth_mechanism_ssl,rabbitmq_prometheus].\n' >"$rabbit/enabled_plugins"
  cat >"$rabbit/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$amqp
management.tcp.ip = 127.0.0.1
management.tcp.port = $management
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = $prometheus
default_user = longshore
default_pass = $password
loopback_users = none
CONF
  ((EUID != 0)) || chown -R rabbitmq:rabbitmq "$rabbit"
  chmod 600 "$rabbit/password" "$rabbit/curlrc" "$rabbit/rabbitmq.conf"
  as_user rabbitmq env -C "$rabbit" \
    HOME="$rabbit" RABBITMQ_NODENAME="longshore$amqp@localhost" \
    RABBITMQ_MNESIA_BASE="$rabbit/mnesia" RABBITMQ_LOG_BASE="$rabbit/log" \
    RABBITMQ_CONFIG_FILE="$rabbit/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$rabbit/enabled_plugins" \
    RABBITMQ_CONF_ENV_FILE="$rabbit/none" RABBITMQ_PID_FILE="$rabbit/rabbitmq.pid" \
    RABBITMQ_DIST_PORT="$dist" ERL_EPMD_PORT="$epmd" ERL_EPMD_ADDRESS=127.0.0.1 \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 2:2" \
    setsid --fork /usr/lib/rabbitmq/bin/rabbitmq-server >"$rabbit/stdout" 2>&1 </dev/null
  if ! wait_until 90 rabbitmq_ready; then
    tail -n 20 "$rabbit/stdout" >&2
    die "RabbitMQ did not start (its log is in $rabbit/log)"
  fi
  pid_record "$(cat "$rabbit/rabbitmq.pid")" "$rabbit/pid"
  local mapper
  mapper="$(_rabbitmq_epmd "$epmd")" && pid_record "$mapper" "$rabbit/epmd-pid"
  note "RabbitMQ: started on 127.0.0.1:$amqp, management on 127.0.0.1:$management"
}

# The process id of the port mapper that the broker left behind: whoever listens on its port.
_rabbitmq_epmd() { ss -Hltnp "sport = :$1" | sed -n 's/.*"epmd",pid=\([0-9]*\).*/\1/p' | head -n 1 | grep .; }

rabbitmq_stop() {
  # The broker's own pid file is gone long before it lets go of its ports, hence ours.
  [[ ! -e "$rabbit/pid" ]] || { pid_end "$rabbit/pid" 60 && note "RabbitMQ: stopped"; }
  [[ ! -e "$rabbit/epmd-pid" ]] || pid_end "$rabbit/epmd-pid" 10
  rm -rf "$rabbit"
}

rabbitmq_status() {
  local pid
  if pid="$(pid_of "$rabbit/pid")"; then
    printf 'rabbitmq   running, pid %s, port %s, management port %s\n' \
      "$pid" "$(cat "$rabbit/port")" "$(cat "$rabbit/management-port")"
  else
    printf 'rabbitmq   stopped\n'
  fi
}

rabbitmq_env() {
  local password
  password="$(cat "$rabbit/password")"
  printf 'export LONGSHORE_TEST_AMQP_URL=amqp://longshore:%s@127.0.0.1:%s/%%2f\n' "$password" "$(cat "$rabbit/port")"
  printf 'export LONGSHORE_TEST_AMQP_MANAGEMENT=http://longshore:%s@127.0.0.1:%s\n' \
    "$password" "$(cat "$rabbit/management-port")"
}
