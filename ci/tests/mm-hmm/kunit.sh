# shellcheck shell=bash
# For the tests of the tag table and the HMM mirror: their KUnit suites in a machine, their results as
# KTAP. A case that is skipped fails.

# kunit GLOB SUITES OPTION...: run what GLOB names at boot, print the results of SUITES.
kunit() {
	local glob=$1 suites=$2 seed=${TEST_SEED:-$((RANDOM + 1))} steps=600 table=4000
	shift 2
	# Its checkers make every step ten times as long.
	[ "$KERNEL" != debug ] || steps=60 table=1000
	echo "# seed $seed (TEST_SEED sets it)"
	ci/vm --kernel "$KERNEL" --mem 2G --timeout 280 --append "kunit.enable=1 kunit.filter_glob=$glob" \
		--append "hmm_mirror_test.seed=$seed hmm_mirror_test.steps=$steps" \
		--append "pfn_table_test.steps=$table" "$@" -- \
		env suites="$suites" sh -ec 'for suite in $suites; do cat /sys/kernel/debug/kunit/$suite/results; done'
}
