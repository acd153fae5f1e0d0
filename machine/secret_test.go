package machine

import (
	"errors"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"
)

func TestKeptAt(t *testing.T) {
	keyring.MockInit()
	for _, item := range [][2]string{{"me", "s3cret\n"}, {"empty", " \n"}, {"a/b", "nested"}} {
		if err := keyring.Set("digitalocean", item[0], item[1]); err != nil {
			t.Fatal(err)
		}
	}
	for item, want := range map[string]string{"digitalocean/me": "s3cret", "digitalocean/a/b": "nested"} {
		if got, err := keptAt(item); got != want || err != nil {
			t.Errorf("%s: %q, %v", item, got, err)
		}
	}
	for item, want := range map[string]string{
		"digitalocean/you":   `the keyring has no item "digitalocean/you"`,
		"digitalocean/empty": "is empty",
		"digitalocean":       "SERVICE/ACCOUNT", "/me": "SERVICE/ACCOUNT", "digitalocean/": "SERVICE/ACCOUNT", "": "SERVICE/ACCOUNT",
	} {
		if _, err := keptAt(item); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", item, err)
		}
	}
	keyring.MockInitWithError(errors.New("nobody offers the Secret Service"))
	if _, err := keptAt("digitalocean/me"); err == nil || !strings.Contains(err.Error(), `asking the keyring for "digitalocean/me": nobody offers`) {
		t.Errorf("without a keyring: %v", err)
	}
}
