//go:build linux

package main

import "C" // compiles reaper.c
