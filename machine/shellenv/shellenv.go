// Package shellenv writes environment variables as a shell's commands, for `eval $(berth env NAME)`. It is a leaf with few imports:
// shells run it at each prompt.
package shellenv

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Variable is one variable of the environment.
type Variable struct {
	Name, Value string
	Unset       bool // remove it, among others that are set
}

// ErrUnknown is that nothing says which shell the user has.
var ErrUnknown = errors.New("Error: Unknown shell") //nolint:staticcheck // docker-machine's words

// Client is what points Docker's clients at a machine. Without certPath, host is a local socket, to which clients would speak TLS,
// too, if they were told to.
func Client(name, host, certPath string) []Variable {
	local := certPath == ""
	return []Variable{
		{Name: "DOCKER_TLS_VERIFY", Value: "1", Unset: local}, {Name: "DOCKER_HOST", Value: host},
		{Name: "DOCKER_CERT_PATH", Value: certPath, Unset: local}, {Name: "DOCKER_MACHINE_NAME", Value: name},
	}
}

// Platform is what clients need besides on an operating system: compose turns paths of Windows into the engine's.
func Platform(goos string) []Variable {
	if goos != "windows" {
		return nil
	}
	return []Variable{{Name: "COMPOSE_CONVERT_WINDOWS_PATHS", Value: "true"}}
}

// shell is how variables are set in one family of shells.
type shell struct {
	set, unset string // formats; set takes name and value
	quote      func(string) string
	comment    string
	hint       string // format; takes the command line
	end        string // of a command
}

// unsetAmong is unset between assignments: where a shell takes the output as words of one line, it needs an end.
func (s shell) unsetAmong() string { return strings.TrimRight(s.unset, ";\n") + s.end + "\n" }

// shellNamed knows six families; whatever it does not know is taken for a POSIX shell.
func shellNamed(name string) shell {
	switch name {
	case "fish":
		return shell{set: "set -gx %s \"%s\";\n", unset: "set -e %s;\n", quote: escape(`\"$`, `\`), comment: "#", hint: "eval (%s)", end: ";"}
	case "powershell", "pwsh":
		return shell{set: "$Env:%s = \"%s\"\n", unset: "Remove-Item Env:\\\\%s\n", quote: escape("`\"$", "`"), comment: "#", hint: "& %s | Invoke-Expression"}
	case "cmd":
		return shell{set: "SET %s=%s\n", unset: "SET %s=\n", quote: asIs, comment: "REM", hint: "\t@FOR /f \"tokens=*\" %%i IN ('%s') DO @%%i"}
	case "tcsh", "csh":
		return shell{set: "setenv %s \"%s\";\n", unset: "unsetenv %s;\n", quote: asIs, comment: ":", hint: "eval `%s`", end: ";"}
	case "emacs":
		return shell{
			set: "(setenv \"%s\" \"%s\")\n", unset: "(setenv \"%s\" nil)\n", quote: escape(`\"`, `\`), comment: ";;",
			hint: "(with-temp-buffer (shell-command \"%s\" (current-buffer)) (eval-buffer))",
		}
	}
	return shell{set: "export %s=\"%s\"\n", unset: "unset %s\n", quote: quotePOSIX, comment: "#", hint: "eval $(%s)", end: ";"}
}

func asIs(s string) string { return s }

// escape puts the escape character before each of the special ones, inside double quotes.
func escape(special, with string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for _, r := range s {
			if strings.ContainsRune(special, r) {
				b.WriteString(with)
			}
			b.WriteRune(r)
		}
		return b.String()
	}
}

// quotePOSIX escapes what is special inside double quotes. A backslash is so only before these characters: paths of Windows
// stay as docker-machine prints them.
func quotePOSIX(s string) string {
	var b strings.Builder
	for i := range len(s) {
		next := i + 1
		special := strings.IndexByte("\"$`", s[i]) >= 0
		special = special || s[i] == '\\' && (next == len(s) || strings.IndexByte("\"$`\\", s[next]) >= 0)
		if special {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Write prints the variables as assignments of the shell named, or as their removal, then how to have the shell take them. args is
// the whole command line that the user typed.
func Write(w io.Writer, shell string, vars []Variable, unset bool, args []string) error {
	sh := shellNamed(shell)
	b := bufio.NewWriter(w)
	for _, v := range vars {
		if v.Unset && !unset {
			fmt.Fprintf(b, sh.unsetAmong(), v.Name)
			continue
		}
		if unset {
			fmt.Fprintf(b, sh.unset, v.Name)
			continue
		}
		fmt.Fprintf(b, sh.set, v.Name, sh.quote(v.Value))
	}
	fmt.Fprintf(b, "%s Run this command to configure your shell: \n", sh.comment)
	fmt.Fprintf(b, sh.comment+" "+sh.hint+"\n", commandLine(args))
	return b.Flush()
}

// commandLine is what the user typed; the program is quoted when a shell would not take it for one word.
func commandLine(args []string) string {
	line := slices.Clone(args)
	if strings.ContainsAny(line[0], ` \`) {
		line[0] = `"` + line[0] + `"`
	}
	return strings.Join(line, " ")
}
