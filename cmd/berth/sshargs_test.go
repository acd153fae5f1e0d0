package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSSH(t *testing.T) {
	local := func(spec, listen, to string) []forward {
		return []forward{{spec: spec, listen: socket{"tcp", listen}, to: socket{"tcp", to}}}
	}
	tests := []struct {
		in   string
		want sshOptions
	}{
		{"", sshOptions{}},
		{"m", sshOptions{machine: "m"}},
		{"m ls -l /", sshOptions{machine: "m", command: "ls -l /"}},
		{"m -t top -d 1", sshOptions{machine: "m", tty: 1, command: "top -d 1"}},
		{"-l bob m rsync --server -v .", sshOptions{machine: "m", user: "bob", command: "rsync --server -v ."}},
		{"m -- -t", sshOptions{machine: "m", command: "-t"}},
		{"m -ttNL8080:localhost:80", sshOptions{machine: "m", tty: 2, noCommand: true, local: local("8080:localhost:80", "localhost:8080", "localhost:80")}},
		{"m -L [::1]:1:[fe80::2]:3", sshOptions{machine: "m", local: local("[::1]:1:[fe80::2]:3", "[::1]:1", "[fe80::2]:3")}},
		{"m -L 1:db:2 -g", sshOptions{machine: "m", gateway: true, local: local("1:db:2", ":1", "db:2")}},
		{"m -L *:1:db:2", sshOptions{machine: "m", local: local("*:1:db:2", ":1", "db:2")}},
		{"m -L 1:/run/x.sock", sshOptions{machine: "m", local: []forward{{"1:/run/x.sock", socket{"tcp", "localhost:1"}, socket{"unix", "/run/x.sock"}}}}},
		{"m -L /tmp/a:/run/b", sshOptions{machine: "m", local: []forward{{"/tmp/a:/run/b", socket{"unix", "/tmp/a"}, socket{"unix", "/run/b"}}}}},
		{"m -R 0:localhost:3000", sshOptions{machine: "m", remote: []forward{{"0:localhost:3000", socket{"tcp", "localhost:0"}, socket{"tcp", "localhost:3000"}}}}},
		{"m -D 1080", sshOptions{machine: "m", dynamic: []forward{{spec: "1080", listen: socket{"tcp", "localhost:1080"}}}}},
		{"m -W db:5432", sshOptions{machine: "m", stdio: "db:5432"}},
		{"m -o User=bob -o RequestTTY=force -qxa", sshOptions{machine: "m", user: "bob", tty: 2}},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := parseSSH(strings.Fields(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got, cmp.AllowUnexported(sshOptions{}, forward{}, socket{})); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseSSHRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"m -A":                "does not forward the agent",
		"m -X":                "X11",
		"m -f":                "background",
		"m -p 22":             "knows the machine's port",
		"m -i key":            "knows the machine's port and key",
		"m -F conf":           "ssh -F is not supported",
		"m -Z":                "ssh -Z is not supported",
		"m -L":                "needs a value",
		"m -L 80":             "not of the form",
		"m -L 80:x":           "not of the form",
		"m -L 0:x:1":          "not a port",
		"m -L 1:x:70000":      "not a port",
		"m -L [::1:1:x:2":     "bracket",
		"m -L 1:2:3:4:5":      "not of the form",
		"m -D x":              "not a port",
		"m -o ProxyCommand=x": "not supported",
		"m -o RequestTTY=x":   "no, yes, force or auto",
	} {
		_, err := parseSSH(strings.Fields(in))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

func FuzzParseSSH(f *testing.F) {
	f.Add("m -L 1:[::1]:2 -o User=x -- ls")
	f.Add("-L [ -D")
	f.Fuzz(func(t *testing.T, line string) {
		o, err := parseSSH(strings.Fields(line))
		if err != nil {
			return
		}
		for _, fw := range append(append(o.local, o.remote...), o.dynamic...) {
			if fw.listen.address == "" {
				t.Errorf("%q listens nowhere: %+v", line, fw)
			}
		}
	})
}

func TestParseLocation(t *testing.T) {
	tests := []struct {
		in, goos string
		want     location
	}{
		{"file", "linux", location{path: "file"}},
		{"web1:", "linux", location{machine: "web1"}},
		{"bob@web1:a:b", "linux", location{user: "bob", machine: "web1", path: "a:b"}},
		{"localhost:/x", "linux", location{path: "/x"}},
		{"./a:b", "linux", location{path: "./a:b"}},
		{`C:\x`, "windows", location{path: `C:\x`}},
		{`c:x`, "linux", location{machine: "c", path: "x"}},
	}
	for _, tt := range tests {
		if got := parseLocation(tt.in, tt.goos); got != tt.want {
			t.Errorf("%q on %s is %+v", tt.in, tt.goos, got)
		}
	}
}

func TestNamesOfHostileMachines(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "/etc/passwd", "../x", "a\x00"} {
		if (here{}).valid(name) {
			t.Errorf("%q may be written here", name)
		}
	}
	if !(here{}).valid("..a b") {
		t.Error("a harmless name is refused")
	}
}
