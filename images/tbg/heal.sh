#!/bin/sh
# heal TIMES COMMAND...: a health check that also restarts.
#
# Docker marks a container unhealthy and leaves it running. After TIMES failures in a
# row this ends the container's main process, and the restart policy starts it again:
# for programs that may hang without ending (the Dagster daemon, when the code server
# went away under it). Runs as the user of that process, so it may signal it.
set -u
times=$1
shift
count=/tmp/heal.count
if "$@"; then
    rm -f "$count"
    exit 0
fi
echo x >>"$count"
if [ "$(wc -l <"$count")" -ge "$times" ]; then
    rm -f "$count"
    echo "failed $times times: restarting" >&2
    kill -TERM 1
    sleep 15
    # Everything but PID 1, which is docker-init and ends with its child.
    kill -KILL -1
fi
exit 1
