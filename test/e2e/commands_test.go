//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// commands are what the scenarios need beyond running programs.
var commands = map[string]func(*testscript.TestScript, bool, []string){
	"http":  httpCmd,
	"udp":   udpCmd,
	"until": untilCmd,
}

// patience bounds what a scenario waits for; it is generous, since the VM's processor is emulated.
const patience = 2 * time.Minute

// httpCmd: [!] http URL [TEXT]. Waits until the URL is answered with the text in it, or, negated, until nothing answers.
func httpCmd(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(eventually(func() error {
		err := answers(args[0], strings.Join(args[1:], " "))
		if !neg {
			return err
		}
		if err == nil {
			return fmt.Errorf("%s still answers", args[0])
		}
		return nil
	}))
}

// answers is an error unless the URL is answered with the text in it.
func answers(url, text string) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && !strings.Contains(string(body), text) {
		err = fmt.Errorf("%s answers %q, without %q", url, body, text)
	}
	return err
}

// udpCmd: udp HOST:PORT TEXT. Sends the text until it comes back.
func udpCmd(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(eventually(func() error {
		c, err := net.Dial("udp", args[0])
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := fmt.Fprintln(c, args[1]); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		b := make([]byte, 1500)
		n, err := c.Read(b)
		if err == nil && !strings.Contains(string(b[:n]), args[1]) {
			err = fmt.Errorf("got %q back", b[:n])
		}
		return err
	}))
}

// untilCmd: until TEXT COMMAND ARG…. Runs the command until its output has the text in it.
func untilCmd(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(eventually(func() error {
		path, err := lookPath(ts, args[1])
		if err != nil {
			return err
		}
		cmd := exec.Command(path, args[2:]...)
		cmd.Env = environ(ts)
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), args[0]) {
			return nil
		}
		return fmt.Errorf("%s: %v, output without %q:\n%s", strings.Join(args[1:], " "), err, args[0], out)
	}))
}

func environ(ts *testscript.TestScript) []string {
	var env []string
	for _, k := range []string{"HOME", "PATH", "BERTH_HOME", "XDG_RUNTIME_DIR", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"} {
		if v := ts.Getenv(k); v != "" {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// lookPath finds a program in the scenario's PATH rather than the test's.
func lookPath(ts *testscript.TestScript, name string) (string, error) {
	for _, dir := range strings.Split(ts.Getenv("PATH"), ":") {
		if p, err := exec.LookPath(dir + "/" + name); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: not in PATH", name)
}

func eventually(try func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}
