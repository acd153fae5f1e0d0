package provision

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestScriptCutOff feeds a real shell every beginning of a script, as a broken connection does.
func TestScriptCutOff(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no POSIX shell here")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "file")
	content := "first\nit's $HOME `x` \\ \"\nlast, without a newline"
	body, err := writeScript(file{path, []byte(content), 0o644})
	if err != nil {
		t.Fatal(err)
	}
	whole := wrap(body)
	feed := func(script string) error {
		cmd := exec.Command(sh, "-s")
		cmd.Stdin = strings.NewReader(script)
		return cmd.Run()
	}
	const step = 7 // every byte would take a minute
	lastLine := strings.LastIndex(strings.TrimSpace(whole), "\n") + 1
	for n := 0; n < lastLine; n += step {
		_ = feed(whole[:n])
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Fatalf("cut off after %d bytes, the script did something:\n%s", n, whole[:n])
		}
	}
	if err := feed(whole); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != content {
		t.Errorf("wrote %q, %v", got, err)
	}
}

func TestWriteScriptRefusesBinary(t *testing.T) {
	if _, err := writeScript(file{"/x", []byte{0}, 0o644}); err == nil {
		t.Error("accepted")
	}
}

func TestParseFacts(t *testing.T) {
	answer := "Welcome to web1!\n" + factsVersion + "\nuname Linux 6.1.0 x86_64\nvia sudo -n\ninit systemd\ntool gzip\nbinary abc /usr/local/bin/berthd\n" +
		"part 12 berthd-1.gz.part\nkey yes\nunheard of\nfile /etc/berth/daemon.json\n{}\nend\n\nMARK\nfile /empty\n\nMARK\nend\n"
	f, err := parseFacts([]byte(answer), "MARK")
	if err != nil {
		t.Fatal(err)
	}
	if f.OS != "linux" || f.Arch != "amd64" || f.Kernel != "6.1.0" || f.Via != "sudo -n" || f.Init != Systemd || !f.tools["gzip"] ||
		f.BinarySHA256 != "abc" || f.Binary != "/usr/local/bin/berthd" || f.parts["berthd-1.gz.part"] != 12 || !f.keyThere ||
		string(f.files["/etc/berth/daemon.json"]) != "{}\nend\n" || string(f.files["/empty"]) != "" {
		t.Errorf("read %+v", f)
	}
	for n := range len(answer) - 1 {
		if _, err := parseFacts([]byte(answer[:n]), "MARK"); err == nil {
			t.Errorf("an answer cut off after %d bytes was accepted", n)
		}
	}
}

// FuzzParseFacts: whatever a machine answers, it is understood or refused.
func FuzzParseFacts(f *testing.F) {
	f.Add([]byte(factsVersion + "\nuname Linux 6.1 x86_64\ntool gzip\nbinary abc /usr/bin/berthd\npart 12 a.part\nfile /x\n{}\nMARK\nend\n"))
	f.Add([]byte("noise\n" + factsVersion + "\nuname Linux 6.1 x86_64\ninit systemd\ndisk 100 /etc /\nlacks overlay surely\nlisten 0948\nend\n"))
	f.Add([]byte(factsVersion + "\ndisk -1 / /\nend\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		facts, err := parseFacts(data, "MARK")
		if err != nil {
			return
		}
		r := &run{facts: facts, engine: Engine{Size: 1 << 20}, spec: Spec{Config: []byte(`{}`)}}
		_, _ = facts.check(), r.judge()
		for _, d := range facts.host.disks {
			if d.free < 0 {
				t.Errorf("%d bytes are free", d.free)
			}
		}
	})
}
