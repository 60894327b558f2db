# shellcheck shell=bash
# Shared by the tests of this folder: runs a perftest server and client over rxe0 and keeps their output.
# New programs are those of NEW, the packaged ones those of OLD (folders).
NEW=${NEW:-/twostep/guest/perftest}
OLD=${OLD:-/usr/bin}
DEVICE=${DEVICE:-rxe0}
ADDRESS=${ADDRESS:-10.7.7.1}
GID_INDEX=${GID_INDEX:-1}
SECONDS_EACH=${SECONDS_EACH:-60}
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
PORT=18600
count=0 failed=0
HW=/sys/class/infiniband/$DEVICE/ports/1/hw_counters
# What the kernel read before is shown for so many milliseconds.
echo 0 > "$HW/lifespan"
SEED=${SEED:-0}
echo "KTAP version 1"
echo "# seed $SEED"

# chosen N: whether this is one of the calls, one in N, that SEED draws
calls=0
chosen() {
	calls=$((calls + 1))
	[ $(((calls + SEED) % $1)) = 0 ]
}

# counter NAME: a counter of the device
counter() { cat "$HW/$1"; }

# moving PACKETS: until the device has sent so many more
moving() {
	local wanted=$(($(counter sent_pkts) + $1))
	until [ "$(counter sent_pkts)" -ge "$wanted" ]; do sleep 0.02; done
}

# One result line of TAP: ok STATUS NAME
ok() {
	count=$((count + 1))
	if [ "$1" = 0 ]; then
		echo "ok $count $2"
	else
		failed=$((failed + 1))
		echo "not ok $count $2"
		for f in "$OUT"/server "$OUT"/client; do
			[ -s "$f" ] && tail -n 15 "$f" | sed "s|^|# ${f##*/}: |"
		done
	fi
}

# check NAME COMMAND...: the command's status is the result
check() {
	local name=$1
	shift
	"$@" && ok 0 "$name" || ok 1 "$name"
}

finish() {
	echo "1..$count"
	[ "$failed" = 0 ]
}

listening() {
	grep -q "$(printf ':%04X 00000000:0000 0A\|:%04X 0\{32\}:0000 0A' "$1" "$1")" /proc/net/tcp /proc/net/tcp6
}

# pair SERVER-PROGRAM [ARG...] -- CLIENT-PROGRAM [ARG...]
# Leaves their status in S and C, what they printed in $OUT/server and $OUT/client.
pair() {
	local server=() client=() rdma_cm=
	while [ "$1" != -- ]; do
		server+=("$1")
		shift
	done
	shift
	client=("$@")
	PORT=$((PORT + 1))
	rm -f "$OUT"/server "$OUT"/client
	local common=(-d "$DEVICE" -p "$PORT" -F)
	case " ${client[*]} " in *' -R '*|*' -z '*) rdma_cm=1 ;; *) common+=(-x "$GID_INDEX") ;; esac
	timeout -k 2 "$SECONDS_EACH" "${server[@]}" "${common[@]}" > "$OUT"/server 2>&1 &
	SERVER_PID=$!
	if [ -n "$rdma_cm" ]; then
		until rdma resource show cm_id | grep -q LISTEN || ! kill -0 "$SERVER_PID" 2>/dev/null; do
			sleep 0.02
		done
	else
		local i=0
		until listening "$PORT" || ! kill -0 "$SERVER_PID" 2>/dev/null || [ $i -ge 500 ]; do
			sleep 0.02
			i=$((i + 1))
		done
	fi
	timeout -k 2 "$SECONDS_EACH" "${client[@]}" "${common[@]}" "$ADDRESS" > "$OUT"/client 2>&1
	C=$?
	# A client that fails before it connects leaves its server waiting for another; one that has
	# connected is noticed.
	if [ "$C" != 0 ]; then
		local i=0
		while kill -0 "$SERVER_PID" 2>/dev/null && [ $i -lt 150 ] && { [ -n "$rdma_cm" ] || ! listening "$PORT"; }; do
			sleep 0.02
			i=$((i + 1))
		done
		kill "$SERVER_PID" 2>/dev/null
	fi
	wait "$SERVER_PID"
	S=$?
}

# both OPTIONS: the same program and options on both sides
both() {
	pair "$NEW/$1" "${@:2}" -- "$NEW/$1" "${@:2}"
}

passed() { [ "$S" = 0 ] && [ "$C" = 0 ]; }
refused() { [ "$C" != 0 ]; }
