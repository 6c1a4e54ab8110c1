# shellcheck shell=bash
# A Git server for one machine: BusyBox's httpd in front of Git's own http-backend. Sourced.
#
# `make up` deploys over http and not from a path, because that is what everybody's repository is:
# the node's defaults stay as they are (file:// refused), fetches are shallow, and no package is
# needed that the base images do not need anyway.

# git_server_start ROOT PORT PIDFILE LOG: serves ROOT/*.git at http://127.0.0.1:PORT/cgi-bin/git/….
git_server_start() {
  local root="$1" port="$2" pid_file="$3" log="$4" web
  web="$root/.web"
  mkdir -p "$web/cgi-bin"
  # httpd passes on what a CGI program prints and then closes the connection without a word. libgit2
  # takes that for an answer cut off, so the answer is kept until its length can be told.
  cat >"$web/cgi-bin/git" <<CGI
#!/bin/sh
export GIT_PROJECT_ROOT='$root' GIT_HTTP_EXPORT_ALL=1
answer="\$(mktemp)"
trap 'rm -f "\$answer"' EXIT
git http-backend >"\$answer"
headers="\$(sed '/^.\$/q' "\$answer" | wc -c)"
printf 'Connection: close\r\nContent-Length: %s\r\n' "\$((\$(wc -c <"\$answer") - headers))"
cat "\$answer"
CGI
  chmod 755 "$web/cgi-bin/git"
  # -f keeps it in the foreground of its own session, so that its process id is known and a Ctrl-C
  # in the terminal does not reach it.
  setsid /bin/busybox httpd -f -p "127.0.0.1:$port" -h "$web" >"$log" 2>&1 </dev/null &
  pid_record "$!" "$pid_file"
  wait_until 10 git ls-remote "$(git_server_url "$port" "$(basename "$(printf '%s\n' "$root"/*.git | head -n 1)")")" ||
    die "the Git server did not start: $(cat "$log")"
}

git_server_url() { printf 'http://127.0.0.1:%s/cgi-bin/git/%s\n' "$1" "$2"; }

# git_repository_make SOURCE BARE WORK: a repository whose first commit is SOURCE, as a bare
# repository to fetch from and a clone of it to work in. One that is there already stays as it is.
git_repository_make() {
  local source="$1" bare="$2" work="$3"
  [[ ! -d "$bare" ]] || return 0
  mkdir -p "$(dirname "$bare")" "$(dirname "$work")"
  git init --quiet --bare --initial-branch=main "$bare.new"
  rm -rf "$work"
  git init --quiet --initial-branch=main "$work"
  cp -R "$source/." "$work/"
  git -C "$work" config user.name "${GIT_AUTHOR_NAME:-Longshore}"
  git -C "$work" config user.email "${GIT_AUTHOR_EMAIL:-longshore@localhost}"
  git -C "$work" add --all
  git -C "$work" commit --quiet --message "First version"
  git -C "$work" remote add origin "$bare"
  mv "$bare.new" "$bare"
  git -C "$work" push --quiet --set-upstream origin main
}
