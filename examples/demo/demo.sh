#!/usr/bin/env bash
# demo.sh: runs the example service under limits, puts load on it, reads its figures in Prometheus, shows a start's plan.
#
# Everything has a place of its own (build/demo, a bridge, a firewall table, a cgroup), so no container of yours is
# touched; and all of it is gone at the end, also when a step fails.
set -euo pipefail

project=$(cd "$(dirname "$0")/../.." && pwd)
place=$project/build/demo
bridge=mc-demo0
table="minicontainer-demo"
parent="minicontainer-demo"
python=$project/.venv/bin/python
lock=/run/minicontainer-demo.lock
load_seconds=20
started=()

minicontainer=("$project/.venv/bin/minicontainer"
    --root "$place/data" --state "$place/state" --config "$place/minicontainer.toml")

mc() { "${minicontainer[@]}" "$@" 9>&-; } # 9: the demo's lock, which nothing may hold longer than the demo

# background COMMAND...: ends at the latest when the demo does, also when that is killed
background() {
    setpriv --pdeathsig TERM "$@" 9>&- &
    started+=($!)
}

bold() { if [ -t 1 ]; then printf '\033[1m%s\033[0m\n' "$*"; else printf '%s\n' "$*"; fi; }
chapter() { printf '\n'; bold "── $*"; }
# What a user would type is shown as it would be typed, quoted where a shell needs it.
typed() {
    local word line='$'
    for word in "$@"; do
        [[ $word =~ ^[A-Za-z0-9_\&@%+=:,./-]+$ ]] && line+=" $word" || line+=" ${word@Q}"
    done
    bold "$line"
}
shown() { typed sudo minicontainer "$@" && mc "$@"; }
fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

# In a fixed order and by name: containers first, then what was theirs. What is not there is no failure here.
remove_what_is_left() {
    local ids folder
    if [ -d "$place/data" ]; then
        mapfile -t ids < <(mc ps --all --quiet)
        [ ${#ids[@]} = 0 ] || mc rm --force "${ids[@]}" >/dev/null
    fi
    if ip link show $bridge >/dev/null 2>&1; then ip link delete $bridge; fi
    nft list tables | sed -n "s/^table \([a-z0-9]* $table\)\$/delete table \1/p" | nft -f -
    while IFS= read -r folder; do rmdir "$folder"; done \
        < <(find /sys/fs/cgroup -maxdepth 4 -depth -type d -path "*/$parent*")
    rm -rf "$place"
}

at_the_end() {
    local status=$? pid
    trap - EXIT INT TERM
    for pid in ${started[@]+"${started[@]}"}; do
        if kill "$pid" 2>/dev/null; then wait "$pid" 2>/dev/null || true; fi
    done
    remove_what_is_left
    rm -f "$lock"
    [ "$status" = 0 ] || printf '\ndemo: something failed (status %s); what it had started is removed\n' "$status" >&2
    exit "$status"
}

free_port() { "$python" "$project/examples/demo/figures.py" free-port "$1"; }

# wait_for SECONDS WHAT URL
wait_for() {
    local deadline=$((SECONDS + $1))
    until curl --silent --fail --max-time 2 --output /dev/null "$3"; do
        [ $SECONDS -lt $deadline ] || fail "$2 did not answer at $3 within $1 s"
        sleep 0.1
    done
}

prepare() {
    remove_what_is_left # of a demo that was killed
    mkdir -p "$place"
    printf '[network]\nbridge = "%s"\ntable = "%s"\nipv4 = "10.214.213.0/24"\nipv6 = "fd00:214:213::/64"\n[cgroup]\nparent = "%s"\n' \
        $bridge $table $parent >"$place/minicontainer.toml"
    service_port=$(free_port 5565)
    exporter_port=$(free_port 9323)
    prometheus_port=$(free_port 0)
    [ "$service_port" = 5565 ] || echo "Port 5565 is in use here; the demo publishes the service on $service_port instead."
}

import_images() {
    chapter "Two root file systems become images"
    shown import --change 'CMD ["sh"]' images/busybox.tar busybox
    changes=()
    while IFS= read -r line; do changes+=(--change "$line"); done <images/example-service/changes
    shown import "${changes[@]}" images/example-service.tar example-service
    shown images
}

run_the_service() {
    chapter "The example service, with 64 MiB, half a CPU and 100 pids, published on a loopback port"
    shown run -d --name service --memory 64m --cpus 0.5 --pids-limit 100 -p "127.0.0.1:$service_port:5565" \
        -e NUM=20000 example-service
    wait_for 15 "the service" "http://127.0.0.1:$service_port/healthz"
    typed curl "http://127.0.0.1:$service_port/"
    curl --silent --show-error "http://127.0.0.1:$service_port/"
    shown ps
}

start_prometheus() {
    chapter "Prometheus scrapes the container's accounting and the service inside it"
    typed sudo minicontainer metrics --listen "127.0.0.1:$exporter_port" '&'
    background "${minicontainer[@]}" metrics --listen "127.0.0.1:$exporter_port"
    sed -e "s/EXPORTER/127.0.0.1:$exporter_port/" -e "s/SERVICE/127.0.0.1:$service_port/" \
        examples/demo/prometheus.yml >"$place/prometheus.yml"
    background prometheus --config.file="$place/prometheus.yml" --storage.tsdb.path="$place/tsdb" \
        --web.listen-address="127.0.0.1:$prometheus_port" >"$place/prometheus.log" 2>&1
    wait_for 10 "the exporter" "http://127.0.0.1:$exporter_port/metrics"
    wait_for 30 "Prometheus (see build/demo/prometheus.log)" "http://127.0.0.1:$prometheus_port/-/ready"
    echo "Prometheus is ready on a port of its own and scrapes both every second."
}

drive_load() {
    local end=$((SECONDS + load_seconds)) worker workers=()
    printf 'Four clients call the service for %s s ' $load_seconds
    for worker in 1 2 3 4; do
        while [ $SECONDS -lt $end ]; do
            curl --silent --max-time 10 --output /dev/null "http://127.0.0.1:$service_port/load/$worker" || sleep 0.1
        done 9>&- &
        workers+=($!)
    done
    started+=("${workers[@]}")
    while [ $SECONDS -lt $end ]; do
        sleep 1
        printf .
    done
    wait "${workers[@]}"
    printf ' done\n\n'
}

show_figures() {
    "$python" examples/demo/figures.py show "http://127.0.0.1:$prometheus_port" service
    printf '\n'
    shown stats --no-stream service
}

show_plan() {
    chapter "A container start is a plan: what is done, why, with which result, in how many microseconds"
    typed sudo minicontainer run --explain --rm busybox true
    mc run --explain --rm busybox true 2>build/demo-plan.txt
    # the first steps below each heading, and the last ones of all
    awk '/^$/ { next } /:$/ { printf "\n"; n = 0 } n++ < 7 { print } n == 8 { print "      …" }' build/demo-plan.txt
    tail -n 5 build/demo-plan.txt
    echo "All $(wc -l <build/demo-plan.txt) lines are in build/demo-plan.txt."
}

stop_and_remove() {
    chapter "It stops at once, and nothing stays"
    shown stop service
    shown logs --tail 2 service
    shown rm service
    shown ps --all
}

what_next() {
    chapter "What to try next"
    cat <<'TEXT'
  sudo make install                                          puts minicontainer where sudo finds it
  sudo images/import.sh busybox example-service              imports both images for good
  sudo minicontainer run --rm -it busybox sh                 a shell in a container
  sudo minicontainer run --dry-run --network none busybox    the plan of a start; nothing happens
  make test · make bench · make help                         its tests, its speed, and the rest
TEXT
}

[ "$(id -u)" = 0 ] || fail "containers need root; run: sudo make demo"
exec 9>"$lock"
flock --nonblock 9 || fail "another demo is running on this machine; wait until it has ended"
trap at_the_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$project"
prepare
echo "The demo keeps to itself: its data is below build/demo, its bridge is $bridge, and all of it is removed at the end."
import_images
run_the_service
start_prometheus
drive_load
show_figures
show_plan
stop_and_remove
what_next
