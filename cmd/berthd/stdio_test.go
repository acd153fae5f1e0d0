//go:build linux

package main

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestDialStdio(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		said, _ := io.ReadAll(conn) // until the other side has said all
		_, _ = conn.Write(bytes.ToUpper(said))
	}()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs([]string{"dial-stdio", "--socket", path})
	root.SetIn(strings.NewReader("hello"))
	root.SetOut(&out)
	if err := root.Execute(); err != nil || out.String() != "HELLO" {
		t.Errorf("got %q, %v", &out, err)
	}
	root.SetArgs([]string{"dial-stdio", "--socket", path + "x"})
	if err := root.Execute(); err == nil || !strings.Contains(err.Error(), "connecting to the engine") {
		t.Errorf("nobody there: %v", err)
	}
}
