# shellcheck shell=bash
# For the tests of ci/vm: expectations, and finding the QEMU of a run.

fail() {
	echo "$*"
	exit 1
}

# expect_status WANTED COMMAND...: run COMMAND, its output in $TEST_TMP/{out,err}.
expect_status() {
	local wanted=$1 status=0
	shift
	"$@" >"$TEST_TMP/out" 2>"$TEST_TMP/err" || status=$?
	[ "$status" = "$wanted" ] && return
	cat "$TEST_TMP/out" "$TEST_TMP/err"
	fail "status $status instead of $wanted: $*"
}

# PIDs of the QEMUs whose command line has MARK, which the caller put there
# with --append.
qemu_with() {
	local file
	for file in /proc/[0-9]*/cmdline; do
		if tr '\0' ' ' <"$file" 2>/dev/null | grep -q "^qemu-system.* $1"; then
			basename "$(dirname "$file")"
		fi
	done
}

# wait_until SECONDS COMMAND...: until COMMAND succeeds; fails at the deadline.
wait_until() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}
