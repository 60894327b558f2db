# shellcheck shell=bash
# Runs in the guest: two soft-RoCE devices over a veth, one for each side of odp-tests' tests of two.
#
# Both addresses are this host's: v0 and v1 accept a sender that is local, and the neighbours are
# written down, so that packets leave by v0 and arrive by v1 (or the other way).
set -euo pipefail

fail() {
	echo "FAILED: $1"
	exit 1
}

modprobe rdma_rxe
ip link add v0 type veth peer name v1
for end in 0 1; do
	for setting in accept_local=1 arp_ignore=8 rp_filter=0; do
		sysctl -qw "net.ipv4.conf.v$end.$setting"
	done
	ip link set v$end mtu 4500 up
	rdma link add rxe$end type rxe netdev v$end
	ip addr add "10.9.0.$((end + 1))/32" dev v$end
done
for end in 0 1; do
	ip neigh add "10.9.0.$((2 - end))" lladdr "$(cat /sys/class/net/v$((1 - end))/address)" dev v$end
done

client="odp-tests 127.0.0.1 -d rxe0 --seed=${seed:?}"
$client --filter=two_nodes.write >said && fail "a test of two passed alone"
status=0
odp-tests --filter="two_nodes.*" -d rxe0 >said || status=$?
[ $status = 4 ] || fail "without a host they do not skip"

odp-tests serve -d rxe1 >served &
server=$!
until grep -q serving served; do
	kill -0 $server || fail "nobody serves"
done
odp-tests serve -d rxe1 2>said && fail "two serve at one port"
grep -q "port 18580 cannot be served: Address already in use" said || fail "$(cat said)"
# Somebody else: it may hang up while he speaks.
(printf 'GET / HTTP/1.0\r\n\r\n' >/dev/tcp/127.0.0.1/18580) 2>/dev/null || echo "hung up"

$client --require='*' --filter='two_nodes.*' -n "${messages:?}"
[ "$(cat /sys/class/net/v1/statistics/rx_packets)" -gt 300 ] || fail "nothing went over the wire"

# One packet in fifty is lost on the way there: what is reliable does not notice.
tc qdisc add dev v0 root netem loss 2%
$client --require='*' --filter='two_nodes.*-*.uc_*' -n $((messages / 2)) --timeout-scale=2
tc -s qdisc show dev v0 | grep -o 'dropped [1-9][0-9]*' || fail "nothing was lost"
tc qdisc del dev v0 root

kill -0 $server || fail "the server has ended"
[ "$(grep -c '^served two_nodes' served)" = 19 ] || fail "$(cat served)"
