#!/bin/sh
# The first process of a container gets no default signal handling from the kernel, so httpd alone
# would ignore SIGTERM and be killed after a timeout. This shell passes the signal on.
httpd -f -vv -p 8000 -h /www &
httpd=$!
trap 'kill "$httpd"' TERM INT
echo "listening on port 8000"
wait "$httpd"
echo "stopped"
