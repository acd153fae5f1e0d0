package main

import "github.com/getberth/berth/sshutil"

// commandLineAgain is the user's command line in a form that a POSIX shell takes, for hints that add to it.
func commandLineAgain(args []string) string { return sshutil.Quote(args...) }
