// Package network gives containers their networks: namespaces, bridges, addresses, names and published ports.
//
// What is asked for lives in documents: a network's in Root, for good; a sandbox's in ExecRoot, as long as the kernel's
// namespaces live. A document is written before what it speaks of is made, and deleted after it is gone, so that a start
// after a crash finds all there is. Bridges, namespaces and nftables rules outlive the engine: connections of containers
// and published ports go on while it is down. Names (127.0.0.11) and ports published on IPv6 pause.
//
// No thread of the process is ever left in another network namespace: see inNamespace.
package network
