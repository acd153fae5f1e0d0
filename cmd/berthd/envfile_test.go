//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSetEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.env")
	if err := setEnvironment(path); err != nil {
		t.Errorf("no file: %v", err)
	}
	t.Setenv("BERTH_TEST_A", "")
	t.Setenv("BERTH_TEST_B", "")
	if err := os.WriteFile(path, []byte("# proxies\nBERTH_TEST_A=http://u:p@h:1/ a\"'$x\\\n\nBERTH_TEST_B=\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := setEnvironment(path); err != nil {
		t.Fatal(err)
	}
	if got := os.Getenv("BERTH_TEST_A"); got != `http://u:p@h:1/ a"'$x\` {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{"A", "=x", "A=1\n\x00=2", strings.Repeat("#", 2<<20)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := setEnvironment(path); err == nil {
			t.Errorf("%.20q is accepted", bad)
		}
	}
}
