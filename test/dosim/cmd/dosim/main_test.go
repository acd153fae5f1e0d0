//go:build linux

package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test run this program as dosim.
func TestMain(m *testing.M) {
	if os.Getenv("BE_DOSIM") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestOneLineToEvaluate: standard output has one line and no more, and with what it exports the API answers.
func TestOneLineToEvaluate(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-machines=false")
	cmd.Env = append(os.Environ(), "BE_DOSIM=1")
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`^export DIGITALOCEAN_API_URL=(http://\S+) DIGITALOCEAN_ACCESS_TOKEN=(\S+)\n$`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("it prints %q", line)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m[1]+"/v2/account", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m[2])
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("the account: %s", res.Status)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(lines)
	if err != nil || strings.TrimSpace(string(rest)) != "" {
		t.Errorf("after its line it prints %q, %v", rest, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("at Ctrl-C: %v", err)
	}
}
