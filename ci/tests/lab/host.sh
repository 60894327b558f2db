# shellcheck shell=bash
# Helpers of these tests: commands on the host, and first runs that need neither
# network nor time. See README.md.
set -euo pipefail

on_host_path() {
	echo "$TWOSTEP_HOST_SOURCE/${1#/twostep/src/}"
}

# Folders of this test, here and as the host calls them; what stderr is kept in.
fake=$TEST_TMP/fake cache=$TEST_TMP/cache err=$TEST_TMP/err
host_fake=$(on_host_path "$fake") host_cache=$(on_host_path "$cache")
mkdir -p "$fake" "$cache"

die() {
	echo "$*"
	exit 1
}

# on_host [NAME=VALUE...] COMMAND...: in the host's tree, in the checkout's
# folder. The calling shell becomes the command: call it in a subshell, or in
# the background, and $! is the command itself.
on_host() {
	exec chroot /twostep/host env -i HOME=/nonexistent TERM=dumb \
		PATH="$host_fake:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
		TWOSTEP_CACHE="$TWOSTEP_HOST_CACHE" FAKE="${FAKE-}" FAKE_DIR="$host_fake" \
		bash -c 'cd "$1" && shift && exec env "$@"' on_host "$TWOSTEP_HOST_SOURCE" "$@"
}

# enter COMMAND...: ci/lab/enter there, with the lab root that everybody uses.
enter() {
	on_host ci/lab/enter "$@"
}

# first_run COMMAND...: the same with a cache and a mirror of this test's own,
# and with the stand-in for mmdebstrap, which FAKE tells what to do.
first_run() {
	on_host TWOSTEP_CACHE="$host_cache" TWOSTEP_MIRROR="${MIRROR-file:$host_fake/archive}" \
		TWOSTEP_SECURITY_MIRROR= ci/lab/enter "$@"
}

# fails COMMAND...: it ends in time and badly; its stderr is kept.
fails() {
	local status=0
	("$@") 2>"$err" >/dev/null || status=$?
	cat "$err"
	[ $status != 0 ] || die "succeeded: $*"
}

# says WORDS...: the last line of the kept stderr is a sentence of ours with all of WORDS.
says() {
	local last word
	last=$(tail -n 1 "$err")
	[[ $last == "twostep: "* ]] || die "the last line is no sentence of ours: $last"
	for word in "$@"; do
		[[ $last == *"$word"* ]] || die "'$word' is not in: $last"
	done
}

nothing_half_made() {
	[ ! -e "$cache/lab/new" ] || die "a half-made lab root is left"
}

# recovers: the next run makes its lab root and uses it.
recovers() {
	[ "$(FAKE='' first_run echo fine)" = fine ] || die "the next run did not recover"
	nothing_half_made
}

# until_true COMMAND...: waits for it, half a minute at most.
until_true() {
	local end=$((SECONDS + 30))
	until "$@"; do
		[ $SECONDS -lt $end ] || die "in vain: $*"
		sleep 0.05
	done
}

# A time to sleep that no other process has: what is left of this test shows by it.
tag=$((100000 + $$))
runs() { pgrep -fx "sleep $tag" >/dev/null; }
nothing_runs() { ! runs; }

# The stand-in, and what it copies: enough for ci/lab/inside and to make the disk.
make_stand_in() {
	local small=$fake/small program library
	mkdir -p "$fake/archive/dists/trixie" "$small"/usr/{bin,sbin,lib,lib64} \
		"$small"/twostep/{cache,guest,host,linux,lower,obj,root,share,src} \
		"$small"/{dev,etc,proc,root,run,sys,tmp,var/tmp}
	touch "$fake/archive/dists/trixie/InRelease" "$small"/etc/{hosts,resolv.conf}
	ln -s usr/bin usr/sbin usr/lib usr/lib64 "$small"
	for program in sh env true echo sleep mke2fs e2fsck; do
		program=$(type -P $program)
		cp -L "$program" "$small$program"
		ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
			mkdir -p "$small${library%/*}"
			cp -L "$library" "$small$library"
		done
	done
	cat >"$fake/mmdebstrap" <<-'SCRIPT'
		#!/bin/bash
		root=${*: -2:1}
		echo run >>"$FAKE_DIR/runs"
		mkdir -p "$root"
		[ -z "$(ls -A "$root")" ] || { echo "E: $root is not empty"; exit 1; }
		case $FAKE in
		fail) echo 'E: a planted failure'; exit 1 ;;
		fill) for i in {1..2000}; do echo >"$root/$i" || exit 1; done ;;
		wait) until [ -e "$FAKE_DIR/go" ]; do sleep 0.1; done ;;
		sleep*) touch "$root/half"; $FAKE ;;
		esac
		cp -a "$FAKE_DIR/small/." "$root"
	SCRIPT
	chmod +x "$fake/mmdebstrap"
}
make_stand_in
