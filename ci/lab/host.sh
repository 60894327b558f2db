# shellcheck shell=bash
# What ci/lab/enter asks of the host: a cache folder, packages, namespaces.

fail() {
	echo "twostep: $1" >&2
	exit 1
}

# Prints the cache folder, made if necessary.
prepare_cache() {
	local dir=${TWOSTEP_CACHE:-${XDG_CACHE_HOME:-~/.cache}/twostep} error
	error=$(LC_ALL=C mkdir -p "$dir/lab" 2>&1) ||
		fail "cannot make the cache folder $dir (${error##*: }); free some space there or set TWOSTEP_CACHE"
	# Another user's cache holds files with IDs that are not ours to write or remove.
	[[ -O $dir/lab && -w $dir/lab ]] ||
		fail "the cache folder $dir is another user's or read-only; set TWOSTEP_CACHE to a folder of yours"
	readlink -f "$dir"
}

# The lab root is keyed by what it is made from.
recipe_key() {
	(cd "$1" && sha256sum build-root root/*) | sha256sum | cut -c1-16
}

# require_packages LAB CACHE: the host packages that this run needs are there
# afterwards; mmdebstrap and Debian's keys only if the lab root is still to be made.
require_packages() {
	local missing=()
	[ -e "$1/complete" ] || command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
	[ -e "$1/complete" ] || [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
	[ "$(id -u)" = 0 ] || command -v newuidmap >/dev/null || missing+=(uidmap)
	[ ${#missing[@]} != 0 ] || return 0
	local install=(apt-get install --yes --no-install-recommends "${missing[@]}")
	[ "$(id -u)" = 0 ] ||
		fail "this host lacks ${missing[*]}; run as root: ${install[*]}"
	local log=$2/lab/packages.log
	echo "twostep: installing ${missing[*]} with apt (log: $log)" >&2
	# apt does not wait for another apt; two first runs at once would collide.
	(
		flock 9
		export DEBIAN_FRONTEND=noninteractive
		"${install[@]}" || { apt-get update && "${install[@]}"; }
	) 9>"$2/lab/packages.lock" >"$log" 2>&1 </dev/null || {
		tail -n 12 "$log" >&2
		fail "apt could not install ${missing[*]}; see that 'apt-get update' works, or run: ${install[*]}"
	}
}

# Sets NAMESPACES, the command prefix that gives root, mounts and PIDs of our own.
# As root that is all; an ordinary user becomes root of a user namespace whose
# other IDs come from /etc/subuid.
require_namespaces() {
	local user file
	NAMESPACES=(unshare --mount --pid --mount-proc --fork --kill-child=SIGKILL)
	[ "$(id -u)" = 0 ] || NAMESPACES+=(--user --map-root-user --map-auto)
	"${NAMESPACES[@]}" -- true 2>/dev/null && return
	if [ "$(id -u)" = 0 ]; then
		fail "root here may not make mount namespaces (a container without CAP_SYS_ADMIN?); run on a host or in a privileged container"
	fi
	user=$(id -un)
	for file in /etc/subuid /etc/subgid; do
		grep -qsE "^($user|$(id -u)):" $file ||
			fail "an ordinary user needs subordinate IDs in $file; run as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $user"
	done
	fail "this host lets no ordinary user make user namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns); allow it or run as root"
}

# Runs a command in the namespaces and returns its status, or 128 + n when
# signal n told this shell to stop. However this shell ends, everything in the
# namespaces ends:
# - the kernel kills unshare with us (pdeathsig; the guard is for the moment
#   before that is set), and the namespaces' first process with unshare;
# - the first process is a shell, so that the command meets signals as anywhere
#   else and what it orphans is reaped. What that shell and unshare would say
#   of a command that a signal ended is not for the user: only the command
#   itself gets our stderr;
# - on Ctrl-C the terminal tells the command as well: it gets a moment to say
#   what it was doing.
in_namespaces() {
	local child status
	# A shell starts what runs in the background deaf to Ctrl-C; undo that.
	env --default-signal=INT,QUIT setpriv --pdeathsig KILL \
		bash -c '[ "$PPID" = "$1" ] || exit; shift; exec "$@" 7>&2 2>/dev/null' guard $$ \
		"${NAMESPACES[@]}" -- \
		bash -c 'trap : INT QUIT; "$@" 2>&7 7>&-; exit' first "$@" <&0 &
	child=$!
	trap 'end_namespaces "$child"' TERM HUP QUIT
	trap 'timeout --foreground 5 tail --pid="$child" --sleep-interval=0.1 -f /dev/null || :; end_namespaces "$child"' INT
	wait "$child" && status=0 || status=$?
	trap - TERM HUP QUIT INT
	return "$status"
}

# Returns when nothing is left. To kill unshare would be enough, but it would
# not wait for the rest; it does wait for the first process, which goes last.
end_namespaces() {
	local first=
	read -r first _ 2>/dev/null <"/proc/$1/task/$1/children" || :
	kill -KILL "${first:-$1}" 2>/dev/null || :
	wait "$1" 2>/dev/null || :
}
