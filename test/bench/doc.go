// Command bench measures berth beside its peers and prints ratios of medians. Measurements of both sides are interleaved, so that
// a slow minute of the computer meets both. `make bench` builds what it needs and runs it.
package main
