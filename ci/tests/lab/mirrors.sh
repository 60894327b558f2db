# shellcheck shell=bash
# Helpers of the tests of ci/lab/mirror: an apt configuration of their own.
set -euo pipefail
unset TWOSTEP_MIRROR TWOSTEP_SECURITY_MIRROR
etc=$TEST_TMP/etc/apt
mkdir -p "$etc/sources.list.d"
export TWOSTEP_APT_ETC=$etc
# Hosts that nobody has: Debian's archive and its security updates, and others.
ours=ours.example safe=safe.example given=given.example elsewhere=elsewhere.example
export ours safe given elsewhere

# expect MAIN [SECURITY]: what ci/lab/mirror shall print, with the lab's apt and with the host's.
expect() {
	local host_etc=$TWOSTEP_HOST_SOURCE/${etc#/twostep/src/}
	{
		printf 'deb %s %s main\n' "$1" trixie "$1" trixie-updates "$1" trixie-backports
		[ $# = 1 ] || printf 'deb %s %s main\n' "$2" trixie-security
	} >"$TEST_TMP/expected"
	ci/lab/mirror | diff -u "$TEST_TMP/expected" -
	TWOSTEP_APT_ETC=$host_etc chroot /twostep/host "$TWOSTEP_HOST_SOURCE/ci/lab/mirror" | diff -u "$TEST_TMP/expected" -
}
