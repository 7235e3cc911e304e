#!/bin/sh
# Keeps a host's daemons running: one loop a service, in a shell because it must outlive and outweigh none of them.
#   supervise.sh DIR        DIR/NAME.args: the command, one argument a line; DIR/NAME.log: its output; DIR/NAME.pid: its process
# Ends when DIR/stopping exists and its services have ended; TERM makes that so and passes TERM on, in reverse order of start.
# As process 1 of a namespace host it also reaps orphans (the shell's wait collects any child).
dir=$1

keep() {
  name=$1
  delay=0
  while [ ! -e "$dir/stopping" ]; do
    if [ -s "$dir/$name.log" ] && [ "$(stat -c %s "$dir/$name.log")" -gt 10485760 ]; then mv "$dir/$name.log" "$dir/$name.log.1"; fi
    set --
    while IFS= read -r argument; do set -- "$@" "$argument"; done <"$dir/$name.args"
    began=$(cut -d. -f1 /proc/uptime)
    "$@" >>"$dir/$name.log" 2>&1 </dev/null &
    pid=$!
    echo "$pid" >"$dir/$name.pid"
    wait "$pid"
    status=$?
    rm -f "$dir/$name.pid"
    [ -e "$dir/stopping" ] && return
    echo "supervise: $name ended with status $status" >>"$dir/$name.log"
    # At once the first time; a service that keeps dying young waits longer each time, up to 5 s.
    if [ $(($(cut -d. -f1 /proc/uptime) - began)) -gt 10 ]; then delay=0; else
      sleep "$delay"
      [ "$delay" -ge 5 ] || delay=$((delay + 1))
    fi
  done
}

stop() {
  : >"$dir/stopping"
  # Agents first, what they stand on last: the order file is that of start.
  for name in $(sed '1!G;h;$!d' "$dir/order"); do
    pid=$(cat "$dir/$name.pid" 2>/dev/null) || continue
    kill -TERM "$pid" 2>/dev/null || continue
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
    kill -KILL "$pid" 2>/dev/null
  done
}

rm -f "$dir/stopping"
echo $$ >"$dir/supervise.pid"
trap stop TERM INT
while IFS= read -r name; do keep "$name" & done <"$dir/order"
# A trapped signal ends a wait early: wait again until every loop is over.
while :; do
  wait
  [ -e "$dir/stopping" ] && { wait; break; }
done
rm -f "$dir/supervise.pid"
