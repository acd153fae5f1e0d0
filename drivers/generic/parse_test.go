package generic

import (
	"strconv"
	"strings"
	"testing"
)

func TestParseJump(t *testing.T) {
	for text, want := range map[string]string{
		"bastion": ":bastion:22", "me@bastion:2222": "me:bastion:2222", "[fd00::1]:22": ":fd00::1:22", "fd00::1": ":fd00::1:22", "a@b@h": "a@b:h:22",
	} {
		j, err := parseJump(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := j.User + ":" + j.Host + ":" + strconv.Itoa(j.Port); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	for _, bad := range []string{"", "@h", "h:0", "h:x", "h:70000", "a b", "-oProxyCommand=x", "u u@h", "h;id"} {
		if j, err := parseJump(bad); err == nil {
			t.Errorf("%q is taken for %+v", bad, j)
		}
	}
}

func FuzzParseJump(f *testing.F) {
	f.Add("me@bastion:2222")
	f.Fuzz(func(t *testing.T, text string) {
		j, err := parseJump(text)
		if err == nil && (j.Host == "" || strings.ContainsAny(j.Host, " \n\x00") || j.Port < 1 || j.Port > 65535) {
			t.Errorf("%q: %+v", text, j)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("1.2.3.4 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUkDcXYqJE0+1Yb9FSJ2nQhKqEzMaTxLkHVkJ3gHP0x host\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		if err == nil && (len(keys) == 0 || fingerprints(keys) == "") {
			t.Errorf("%q: %q", data, keys)
		}
	})
}
