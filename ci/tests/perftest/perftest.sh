# shellcheck shell=bash
# For the tests of our perftest: the guest's part is guest/NAME.

# perftest NAME: run it
perftest() {
	ci/vm --kernel "$KERNEL" --rxe --cpus 2 --mem 2G --timeout 590 --share ci/tests/perftest/guest -- \
		env SEED="${TEST_SEED:-$RANDOM}" bash "$1"
}
