# shellcheck shell=bash
# What ci/lab/enter asks of the host: a cache folder, namespaces, packages.

fail() {
	echo "twostep: $1" >&2
	exit 1
}

# Prints the cache folder, made if necessary.
prepare_cache() {
	local dir=${TWOSTEP_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/twostep}
	mkdir -p "$dir/lab" 2>/dev/null || fail "cannot write the cache folder $dir; set TWOSTEP_CACHE to a folder of yours"
	[ -w "$dir/lab" ] || fail "cannot write the cache folder $dir; set TWOSTEP_CACHE to a folder of yours"
	readlink -f "$dir"
}

# Sets NAMESPACES, the command prefix that gives root, mounts and PIDs of our own.
# As root that is all; an ordinary user becomes root of a user namespace whose
# other IDs come from /etc/subuid.
require_namespaces() {
	NAMESPACES=(unshare --mount --pid --mount-proc --fork --kill-child=SIGKILL)
	if [ "$(id -u)" != 0 ]; then
		NAMESPACES+=(--user --map-root-user --map-auto)
	fi
	"${NAMESPACES[@]}" -- true 2>/dev/null && return
	if [ "$(id -u)" = 0 ]; then
		fail "root here may not make mount namespaces (a container without CAP_SYS_ADMIN?); run on a host or in a privileged container"
	fi
	command -v newuidmap >/dev/null ||
		fail "an ordinary user needs newuidmap: run 'apt-get install uidmap' as root"
	grep -qs "^$(id -un):" /etc/subuid ||
		fail "an ordinary user needs subordinate IDs: run 'usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)' as root"
	fail "this host does not let an ordinary user make user namespaces (see kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns); run as root"
}

# Runs a command in the namespaces and returns its status. However this shell
# ends, the namespaces end: the kernel kills unshare with us, and its child,
# the first process of the PID namespace, with unshare.
#
# On Ctrl-C the terminal tells the command as well; it gets a moment to say
# what it was doing. unshare itself ignores SIGTERM, so that is passed on as
# SIGKILL.
in_namespaces() {
	local child status
	trap 'kill -KILL "$child" 2>/dev/null; exit 143' TERM HUP
	trap 'timeout 5 tail --pid="$child" -f /dev/null; kill -KILL "$child" 2>/dev/null; exit 130' INT
	setpriv --pdeathsig KILL "${NAMESPACES[@]}" -- "$@" <&0 &
	child=$!
	wait "$child" && status=0 || status=$?
	trap - TERM HUP INT
	return "$status"
}

# Packages that only the making of the lab root needs.
require_packages() {
	command -v mmdebstrap >/dev/null && return
	if [ "$(id -u)" != 0 ]; then
		fail "mmdebstrap is missing: run 'apt-get install mmdebstrap' as root"
	fi
	echo "twostep: installing mmdebstrap with apt" >&2
	{ apt-get update -qq && apt-get install -y -qq --no-install-recommends mmdebstrap; } </dev/null >&2 ||
		fail "apt could not install mmdebstrap; is a mirror in reach? run 'apt-get update' to see"
}

# The lab root is keyed by what it is made from.
recipe_key() {
	(cd "$1" && sha256sum build-root root/*) | sha256sum | cut -c1-16
}
