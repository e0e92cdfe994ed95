#!/usr/bin/env bash
# `make demo`: a real broker, simulated devices and the gateway on this machine; its messages as they come, and one
# command. Runs until Ctrl-C, or for DEMO_SECONDS: then it fails unless everything was really seen.
# Ports and folders are its own, so several may run at a time; nothing stays behind.
set -euo pipefail

cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin"
readonly seconds="${DEMO_SECONDS:-}"
readonly prefix=fieldgate/demo
# Settings of the shell would change the demonstration.
for name in "${!FIELDGATE_@}"; do unset "$name"; done

say() { printf 'demo: %s\n' "$*"; }

if [ -n "$seconds" ] && ! [[ "$seconds" =~ ^[1-9][0-9]*$ ]]; then
    say "DEMO_SECONDS must be a whole number of seconds, not $seconds" >&2
    exit 2
fi

# Everything started, newest first, which is the order of stopping.
pids=()
started() { pids=("$!" "${pids[@]}"); }

stop_all() {
    local pid
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do
        for _ in {1..100}; do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    pids=()
}

folder=$(mktemp -d "${TMPDIR:-/tmp}/fieldgate-demo.XXXXXX")
trap 'stop_all; rm -rf "$folder"' EXIT
# Ctrl-C is how it is meant to end, unless it was to run for a time.
trap '[ -z "$seconds" ] && exit 0; exit 130' INT
trap 'exit 143' TERM HUP PIPE

# Ends the demonstration as failed: shows the end of each log, and keeps them all beside what was built.
fail() {
    stop_all
    local kept="${binary%/*}/../demo-failed" log
    mkdir -p "$kept"
    cp "$folder"/*.log "$kept" 2>/dev/null || true
    {
        for log in "$folder"/*.log; do
            printf '\n--- %s\n' "${log##*/}"
            tail -n 25 "$log"
        done
        printf '\ndemo: FAILED: %s\n' "$@"
        printf 'demo: the logs are in %s\n' "$(cd "$kept" && pwd)"
    } >&2
    exit 1
}

# Waits up to $1 seconds for a command to succeed; ends early when a part of the demonstration has ended.
await() {
    local end=$((SECONDS + $1)) pid
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        for pid in "${pids[@]}"; do
            kill -0 "$pid" 2>/dev/null || fail "a part ended by itself (process $pid)"
        done
        sleep 0.2
    done
}

publish() { mosquitto_pub -h 127.0.0.1 -p "$port" -q 1 "$@"; }

# Prints what the broker delivers, one line a message, and keeps it whole.
show() {
    local retained topic payload
    while read -r retained topic payload; do
        printf '%s %s %s\n' "$retained" "$topic" "$payload" >>"$folder/messages.log"
        [ "${#payload}" -le 200 ] || payload="${payload:0:199}…"
        printf '  %-34s %s\n' "$topic" "$payload"
    done
}

# A message on topic $1 that matches the regular expression $2.
seen() { grep -Eq "^[01] $prefix/$1 .*$2" "$folder/messages.log"; }

start_broker() {
    local attempt
    for attempt in {1..20}; do
        port=$((15000 + RANDOM % 15000))
        # As root, mosquitto would become a user who cannot enter the folder.
        printf 'listener %s 127.0.0.1\nallow_anonymous true\nuser root\npersistence false\n' "$port" >"$folder/mosquitto.conf"
        mosquitto -c "$folder/mosquitto.conf" >"$folder/broker.log" 2>&1 &
        started
        for _ in {1..100}; do
            ! grep -q ' running$' "$folder/broker.log" || return 0
            kill -0 "${pids[0]}" 2>/dev/null || break
            sleep 0.1
        done
        # Most likely somebody else's port: another one.
        stop_all
    done
    fail "the broker did not start ($attempt attempts)"
}

start_devices() {
    "$binary" simulate --config config/demo.toml >"$folder/settings.log" 2>"$folder/simulate.log" &
    started
    # It speaks once, when everything is served.
    await 20 test -s "$folder/settings.log" || fail "the simulated devices did not come up"
    # What could not be served as it is configured (another demonstration may be running).
    local setting
    while read -r setting; do export "${setting?}"; done < <(grep -o 'FIELDGATE_[A-Z0-9_]*=.*' "$folder/settings.log")
}

start_gateway() {
    FIELDGATE_MQTT__URL="mqtt://127.0.0.1:$port" FIELDGATE_BUFFER__PATH="$folder/buffer.db" \
        "$binary" run --config config/demo.toml >"$folder/gateway.log" 2>&1 &
    started
}

start_subscriber() {
    : >"$folder/messages.log"
    mosquitto_sub -h 127.0.0.1 -p "$port" -V 5 -q 1 --retain-as-published -t "$prefix/#" -F '%r %t %p' \
        > >(show) 2>"$folder/subscriber.log" &
    started
}

# Writes the boiler's set point as somebody in the cloud would, and waits for the reply and for the new value.
send_command() {
    local value=61.5 id="demo-$$-$RANDOM" until
    ! seen boiler/readings '"setpoint":61\.5[,}]' || value=48.5
    until=$(date -u -d '+30 seconds' +%Y-%m-%dT%H:%M:%SZ)
    local command="{\"id\":\"$id\",\"action\":\"write\",\"values\":{\"setpoint\":$value},\"expires_at\":\"$until\"}"
    say "a command: set the boiler to $value °C"
    publish -t "$prefix/boiler/command" -m "$command"
    await 15 seen boiler/reply "\"id\":\"$id\".*\"status\":\"succeeded\"" || return 1
    await 15 seen boiler/readings "\"setpoint\":${value/./\\.}[,}]" || return 1
    say "the boiler has confirmed it"
}

# What the demonstration promises to show; prints what was not seen.
missing() {
    local part device
    for part in "boiler (Modbus TCP)" "meter (Modbus RTU)" "scale (serial text)" "weather (simulator)"; do
        device=${part%% *}
        seen "$device/readings" '"values":\{"' || echo "no reading of $part"
    done
    # Asked for anew: only then does the broker say that it has kept it.
    mosquitto_sub -h 127.0.0.1 -p "$port" -t "$prefix/status" -F '%r %p' -C 1 -W 5 2>/dev/null |
        grep -q '^1 .*"state":"online"' || echo "no retained status that says online"
    [ "$command_done" = yes ] || echo "no command round trip"
}

say "building (dev profile: quick to build; \`make build\` makes the fast one)"
binary=$(cargo build --locked --bin fieldgate --message-format=json-render-diagnostics |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
readonly binary
[ -x "$binary" ] || { say "the build failed" >&2 && exit 1; }

command_done=no
port=
start_broker
start_devices
begin=$SECONDS
start_subscriber
start_gateway
say "mosquitto on port $port, four simulated devices, and the gateway; Ctrl-C ends it"

await 15 seen boiler/readings '"setpoint":' || fail "no reading of boiler (Modbus TCP) within 15 s"
await 5 false || true
if send_command; then command_done=yes; fi

if [ -z "$seconds" ]; then
    while await 3600 false || true; do :; done
fi
left=$((seconds - (SECONDS - begin)))
if [ "$left" -gt 0 ]; then await "$left" false || true; fi
mapfile -t unseen < <(missing)
[ "${#unseen[@]}" -eq 0 ] || fail "${unseen[@]}"
say "seen: readings of every device, the retained status, one command and its reply"
