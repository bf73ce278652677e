"""The network of containers: one bridge with NAT, addresses, published ports, and the files that name hosts.

config.py      what can be set, and the names derived from it
netlink.py     netlink messages: attributes, headers, a socket that is answered
rtnl.py        the rtnetlink requests of a start, as bytes and as ip(8) would say them
bridge.py      the bridge and the host's sysctls: there, whole, and ours
nft.py         the nftables rules (drawn there) and their elements
gate.py        the way by which a new connection from outside passes the host's own filter before ours
addresses.py   one symlink an address, safe for concurrent starts
ports.py       -p: parse, reserve, publish
endpoint.py    all of it for one container: attach, ops, release
reclaim.py     what dead containers left
resolvconf.py  /etc/resolv.conf and /etc/hosts of a container
"""
