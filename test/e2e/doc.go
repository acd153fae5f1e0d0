// Package e2e does what a user does, with the real parts: berth makes a light VM in QEMU, and the stock docker client runs
// containers there. One machine is shared by all scenarios, since booting one costs more than all they do.
package e2e
