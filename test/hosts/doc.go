// Package hosts adopts a real Debian, with systemd and OpenSSH in a virtual machine, and does there what a user of the generic
// driver does, with the stock docker client. What is left of the engine at the end is compared with what was there before.
package hosts
