# shellcheck shell=bash disable=SC2154 # the paths are lib.sh's
# A Docker Engine on the default socket, for machines where none answers (no systemd, a container,
# a CI sandbox). Where one answers, it is used as it is and never touched.
#
# It is one for the machine, not one for each checkout: what runs on it outlives both `make up` and
# `make test`. Each user of it leaves a mark under $engine/users; the last to take its mark away
# ends it, unless containers run that are not Longshore's.

engine=/var/lib/longshore-engine
# A short path: the sockets below it may not have names of more than 107 bytes.
engine_exec=/run/longshore-engine
engine_socket=/var/run/docker.sock

docker_mark() {
  printf '%s/users/%s-%s\n' "$engine" "$1" "$(printf %s "$repo:$up_state:$dev_state" | cksum | cut -d' ' -f1)"
}

docker_is_ours() { pid_of "$engine/pid" >/dev/null; }

# docker_start USER: USER is a word such as `up` or `test`.
docker_start() {
  if engine_answers; then
    docker_is_ours || note "Docker Engine: the one that is running"
  else
    [[ -z "${DOCKER_HOST:-}" ]] || die "DOCKER_HOST is $DOCKER_HOST, but no Docker Engine answers there"
    if [[ -d /run/systemd/system ]] && as_root systemctl start docker 2>/dev/null &&
      wait_until 30 engine_answers; then
      note "Docker Engine: started the system's own"
      return 0
    fi
    if ((EUID != 0)) && as_root docker version >/dev/null 2>&1; then
      die "a Docker Engine runs, but $(id -un) may not use it: sudo usermod -aG docker $(id -un), and log in again"
    fi
    _docker_run
  fi
  if docker_is_ours; then
    as_root touch "$(docker_mark "$1")"
  fi
}

_docker_run() {
  PATH="$PATH:/usr/sbin:/sbin"
  have dockerd || die "no Docker Engine answers, and dockerd is not installed: run scripts/install.sh up"
  # What a crash leaves behind: a containerd, or only its pid file, which dockerd would take for one
  # that still runs and wait for in vain; and its own pid file and socket.
  local containerd="$engine_exec/containerd/containerd.pid"
  if as_root test -e "$containerd"; then
    pid_record "$(as_root cat "$containerd")" /dev/stdout | as_root tee "$engine/containerd-pid" >/dev/null
    if [[ "$(cat "/proc/$(as_root cat "$containerd")/comm" 2>/dev/null)" == containerd ]]; then
      as_root_pid_end "$engine/containerd-pid"
    fi
    as_root rm -f "$containerd" "$engine/containerd-pid"
  fi
  as_root rm -f "$engine/pid" "$engine/dockerd.pid" "$engine_socket"
  as_root mkdir -p "$engine/users"
  local mtu
  mtu="$(cat "/sys/class/net/$(ip -o route get 192.0.2.1 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p')/mtu" 2>/dev/null || echo 1500)"
  # Each deployment has a network of its own; the Engine's default pools hold only about thirty.
  # shellcheck disable=SC2016 # the inner shell expands these, as root
  as_root setsid --fork bash -c 'log="$1"; shift; exec "$@" >>"$log" 2>&1 </dev/null' - "$engine/log" \
    dockerd --data-root "$engine/data" --exec-root "$engine_exec" --pidfile "$engine/dockerd.pid" \
    --host "unix://$engine_socket" --group "$(id -gn)" --mtu "$mtu" --shutdown-timeout 5 \
    --default-address-pool base=172.28.0.0/14,size=24
  if ! wait_until 60 engine_answers; then
    as_root tail -n 20 "$engine/log" >&2
    die "the Docker Engine did not start (its log is above and in $engine/log)"
  fi
  pid_record "$(cat "$engine/dockerd.pid")" /dev/stdout | as_root tee "$engine/pid" >/dev/null
  note "Docker Engine: started one on $engine_socket (log: $engine/log)"
}

# docker_stop USER: takes the mark away, and ends an Engine of ours that nobody uses any more.
docker_stop() {
  docker_is_ours || return 0
  as_root rm -f "$(docker_mark "$1")"
  if [[ -n "$(ls -A "$engine/users")" ]]; then
    note "Docker Engine: still in use by $(cd "$engine/users" && echo *)"
    return 0
  fi
  local container
  for container in $(docker ps -q); do
    if [[ -z "$(docker inspect -f '{{index .Config.Labels "longshore.deployment"}}' "$container")" ]]; then
      note "Docker Engine: left running, because container $container is not Longshore's"
      return 0
    fi
  done
  as_root_pid_end "$engine/pid"
  as_root rm -rf "$engine_exec" "$engine_socket"
  note "Docker Engine: stopped (its images stay in $engine/data)"
}

# The pid file is root's; with sudo the whole of pid_end has to run there.
as_root_pid_end() {
  if ((EUID == 0)); then
    pid_end "$1" 30
  else
    # shellcheck disable=SC2016 # the inner shell expands these, as root
    as_root bash -c '. "$1"; pid_end "$2" 30' - "$repo/scripts/lib.sh" "$1"
  fi
}

docker_status() {
  if ! engine_answers; then
    printf 'docker     stopped\n'
  elif docker_is_ours; then
    local used=''
    [[ ! -e "$(docker_mark test)" ]] || used=', used here'
    printf 'docker     running, ours, pid %s%s\n' "$(pid_of "$engine/pid")" "$used"
  else
    printf 'docker     running, not ours\n'
  fi
}

docker_env() {
  printf 'export DOCKER_HOST=%s\n' "${DOCKER_HOST:-unix://$engine_socket}"
  printf 'export LONGSHORE_TEST_DOCKER=1\n'
}
