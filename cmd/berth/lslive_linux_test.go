package main

import (
	"bufio"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// TestRowsComeAsTheyArrive: on a terminal the row of a machine that answers is there while another one, which comes before it by name,
// has not answered yet.
func TestRowsComeAsTheyArrive(t *testing.T) {
	cloud, err := newFakeCloud(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(cloud)
	t.Cleanup(func() { api.Close(); cloud.close() })
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command("berth", args...)
		cmd.Env = append(os.Environ(), "BERTH_HOME="+filepath.Join(cloud.dir, "store"), "FAKE_CLOUD="+api.URL)
		return cmd
	}
	if out, err := command("create", "-d", "fake", "a1", "b-with-a-longer-name").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := cloud.act("a1", "hang"); err != nil {
		t.Fatal(err)
	}
	ls := command("ls", "-t", "60")
	tty, err := pty.Start(ls)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	var rows []string
	for lines := bufio.NewScanner(tty); lines.Scan(); { // ends with an error, as terminals do
		rows = append(rows, strings.TrimSpace(lines.Text()))
		if len(rows) == 2 { // the header, and the one that answers
			if err := cloud.act("a1", "answer"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := ls.Wait(); err != nil || len(rows) != 3 {
		t.Fatalf("%v, rows: %q", err, rows)
	}
	for i, begin := range []string{"NAME ", "b-with-a-longer-name   -  ", "a1 "} {
		if !strings.HasPrefix(rows[i], begin) {
			t.Errorf("row %d is %q, not %q", i, rows[i], begin)
		}
	}
	for _, column := range []string{"Running", "tcp://", "v29"} {
		if at := strings.Index(rows[1], column); at < 0 || strings.Index(rows[2], column) != at {
			t.Errorf("%s is not in one column:\n%s", column, strings.Join(rows, "\n"))
		}
	}
}
