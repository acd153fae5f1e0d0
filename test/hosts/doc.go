// Package hosts adopts real hosts in virtual machines, and does there what a user of the generic driver does, with the stock docker
// client: a Debian with systemd and OpenSSH and, on demand, those of package system. What is left of the engine at the end is
// compared with what was there before.
package hosts
