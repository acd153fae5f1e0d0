package shellenv

import (
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Detect is the shell that runs berth: what SHELL says (git's bash sets it), else the first of the two processes above
// this one that is a shell we know, else cmd.
func Detect(getenv func(string) string) (string, error) {
	if shell := getenv("SHELL"); shell != "" {
		if getenv("__fish_bin_dir") != "" {
			return "fish", nil
		}
		return strings.TrimSuffix(strings.ToLower(filepath.Base(shell)), ".exe"), nil
	}
	pid := uint32(os.Getppid())
	for range 2 {
		name, parent, ok := processInfo(pid)
		if !ok {
			break
		}
		name = strings.ToLower(name)
		switch {
		case strings.Contains(name, "powershell"), strings.Contains(name, "pwsh"):
			return "powershell", nil
		case strings.Contains(name, "cmd"):
			return "cmd", nil
		}
		pid = parent
	}
	return "cmd", nil
}

// processInfo finds the program and the parent of a process.
func processInfo(pid uint32) (name string, parent uint32, ok bool) {
	snap, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return "", 0, false
	}
	defer windows.CloseHandle(snap)
	entry := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(snap, &entry); err == nil; err = windows.Process32Next(snap, &entry) {
		if entry.ProcessID == pid {
			return windows.UTF16ToString(entry.ExeFile[:]), entry.ParentProcessID, true
		}
	}
	return "", 0, false
}
