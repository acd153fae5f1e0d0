package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// programs builds both programs side by side, as they are installed, and returns the path of the one that users call.
func programs(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, pkg := range map[string]string{"berth": ".", "berth-full": "../berth"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name+exeSuffix()), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", name, err, out)
		}
	}
	return filepath.Join(dir, "berth"+exeSuffix())
}

func exeSuffix() string {
	if runtime.GOOS == "windows" {
		return ".exe"
	}
	return ""
}

// store holds one machine of each kind that `env` meets.
func store(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, rest := range map[string]string{
		"default": `"endpoint":{"address":"127.0.0.9","enginePort":2376}`,
		"six":     `"endpoint":{"address":"fd00::9","enginePort":2377}`,
		"hidden":  `"endpoint":{"address":"127.0.0.9","sshOnly":true}`,
		"young":   `"phase":"creating"`,
		"empty":   `"endpoint":{"address":""}`,
		"newer":   `"version":99`,
		"broken":  `"endpoint":`,
	} {
		folder := filepath.Join(dir, "machines", name)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		record := `{"version":1,"name":"` + name + `","driver":"none","phase":"ready","created":"2026-01-02T03:04:05Z",` + rest + `}`
		if err := os.WriteFile(filepath.Join(folder, "machine.json"), []byte(record), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestSameAnswer wants of both programs the same words and the same status, whatever is asked.
func TestSameAnswer(t *testing.T) {
	quick, dir := programs(t), store(t)
	whole := filepath.Join(filepath.Dir(quick), "berth-full"+exeSuffix())
	same := func(args []string, env ...string) {
		t.Helper()
		all := append(append(os.Environ(), "BERTH_HOME="+dir, "MACHINE_DEBUG=", "MACHINE_STORAGE_PATH="), env...)
		if got, want := run(quick, args, all), run(whole, args, all); got != want {
			t.Errorf("%q with %q:\n%s\nthe whole program:\n%s", args, env, got, want)
		}
	}
	for _, args := range [][]string{
		{"env"}, {"env", "default"}, {"env", "six"}, {"env", "--shell", "fish", "six"}, {"env", "--shell=powershell", "default"},
		{"env", "--shell", "cmd"}, {"env", "-shell", "tcsh", "default"}, {"env", "default", "--shell", "emacs"}, {"env", "--shell", ""}, {"env", "--shell"},
		{"env", "young"}, {"env", "hidden"}, {"env", "empty"}, {"env", "newer"}, {"env", "broken"}, {"env", "nobody"}, {"env", "../default"}, {"env", ""},
		{"env", "-u"}, {"env", "--unset", "default"}, {"env", "--no-proxy", "default"}, {"env", "--swarm", "default"}, {"env", "default", "six"},
		{"env", "--help"}, {"env", "--"}, {"env", "--", "default"}, {"env", "--nonsense"},
		{"-s", "elsewhere", "env", "default"}, {"--version"}, {"nonsense"}, {},
	} {
		same(args, "SHELL=/bin/zsh")
	}
	for _, env := range []string{"SHELL=", "MACHINE_DEBUG=maybe", "MACHINE_DEBUG=1", "MACHINE_STORAGE_PATH=" + t.TempDir()} {
		same([]string{"env"}, "SHELL=/bin/fish", env)
	}
}

// run is what a program answers under the name that users call: both streams, and how it ended.
func run(program string, args, env []string) string {
	var out, errs bytes.Buffer
	cmd := &exec.Cmd{Path: program, Args: append([]string{"docker-machine"}, args...), Env: env, Stdout: &out, Stderr: &errs}
	if err := cmd.Run(); err != nil {
		errs.WriteString(err.Error())
	}
	return out.String() + "\n--- standard error\n" + errs.String()
}

// TestNotComplete says what is wrong when berth was installed without its other half, but for what it can answer alone.
func TestNotComplete(t *testing.T) {
	quick, dir := programs(t), store(t)
	if err := os.Remove(filepath.Join(filepath.Dir(quick), "berth-full"+exeSuffix())); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "BERTH_HOME="+dir, "SHELL=/bin/sh")
	if got := run(quick, []string{"ls"}, env); !bytes.Contains([]byte(got), []byte("berth is not complete")) || !bytes.Contains([]byte(got), []byte("exit status 1")) {
		t.Errorf("ls: %s", got)
	}
	if got := run(quick, []string{"env"}, env); !bytes.Contains([]byte(got), []byte(`DOCKER_HOST="tcp://127.0.0.9:2376"`)) {
		t.Errorf("env: %s", got)
	}
}

// TestCalledByLink finds the other half beside the program, not beside the link.
func TestCalledByLink(t *testing.T) {
	quick := programs(t)
	link := filepath.Join(t.TempDir(), "docker-machine"+exeSuffix())
	if err := os.Symlink(quick, link); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	if got := run(link, []string{"--version"}, os.Environ()); !bytes.HasPrefix([]byte(got), []byte("docker-machine version ")) {
		t.Errorf("--version: %s", got)
	}
}

// BenchmarkEnv is what the user waits for: the process started, and ended. Compare with the benchmarks of package main in test/bench.
func BenchmarkEnv(b *testing.B) {
	quick, dir := programs(b), store(b)
	for b.Loop() {
		cmd := exec.Command(quick, "env")
		cmd.Env = append(os.Environ(), "BERTH_HOME="+dir, "SHELL=/bin/sh")
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
	}
}
