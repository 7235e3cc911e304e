#!/bin/sh
# A supervisor's stand-in in the foreground: passes TERM, INT and HUP on to it as TERM, and ends when it has ended.
#   stand-in.sh PID
trap 'kill -TERM "$1" 2>/dev/null' TERM INT HUP
tail --pid="$1" --sleep-interval=1 -f /dev/null &
watcher=$!
# A trapped signal ends a wait early.
while kill -0 "$watcher" 2>/dev/null; do wait "$watcher"; done
