// Package dockerctx keeps contexts of the docker client, in the form in which it stores them itself: a folder below its
// configuration's for each, named for the SHA-256 of the context's name.
package dockerctx

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/getberth/berth/hostdb"
)

// Context is what the docker client needs to reach an engine.
type Context struct {
	Name        string
	Description string
	Host        string // "tcp://127.0.10.1:2376", or a local socket
	CA          []byte // PEM, as the other two; empty for a local socket, which has no TLS
	Cert, Key   []byte
}

// ErrForeign is the error about a context of that name which berth has not made.
var ErrForeign = errors.New("is not berth's")

// meta is the client's document.
type meta struct {
	Name      string
	Metadata  metadata
	Endpoints map[string]endpoint
}

type metadata struct {
	Description string `json:",omitempty"`
	Berth       bool   `json:"berth,omitempty"` // we made it; the client keeps what it does not know
}

type endpoint struct {
	Host          string
	SkipTLSVerify bool
}

// dockerEndpoint is the client's name for the engine's endpoint, and of the folder of its certificates.
const dockerEndpoint = "docker"

// Dir is the folder of the client's configuration: $DOCKER_CONFIG, else .docker in the user's.
func Dir(getenv func(string) string) (string, error) {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the docker client's folder: %w", err)
	}
	return filepath.Join(home, ".docker"), nil
}

// CheckName refuses what the client does not take for a context's name.
func CheckName(name string) error {
	if name == "default" {
		return errors.New(`a docker context: "default" is the client's own`)
	}
	if !regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$`).MatchString(name) {
		return fmt.Errorf("a docker context: the client takes no name such as %q: it must have two characters at least", name)
	}
	return nil
}

func id(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func metaDir(dir, name string) string { return filepath.Join(dir, "contexts", "meta", id(name)) }
func tlsDir(dir, name string) string  { return filepath.Join(dir, "contexts", "tls", id(name)) }

const metaFile = "meta.json"

// Check tells, writing nothing, whether Write would refuse a context of that name.
func Check(dir, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := ours(dir, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Write makes or replaces a context. One that berth has not made is ErrForeign.
func Write(dir string, c Context) error {
	if err := Check(dir, c.Name); err != nil {
		return err
	}
	doc, err := json.Marshal(meta{
		Name: c.Name, Metadata: metadata{c.Description, true}, Endpoints: map[string]endpoint{dockerEndpoint: {Host: c.Host}},
	})
	if err != nil {
		return err
	}
	certs := filepath.Join(tlsDir(dir, c.Name), dockerEndpoint)
	type file struct {
		path string
		data []byte
		mode fs.FileMode
	}
	files := []file{
		{filepath.Join(certs, "ca.pem"), c.CA, 0o600}, {filepath.Join(certs, "cert.pem"), c.Cert, 0o600}, {filepath.Join(certs, "key.pem"), c.Key, 0o600},
	}
	if len(c.CA) == 0 {
		files = nil
		if err := os.RemoveAll(tlsDir(dir, c.Name)); err != nil {
			return fmt.Errorf("writing the docker context %q: %w", c.Name, err)
		}
	}
	// The document comes last: a context without it is none.
	for _, f := range append(files, file{filepath.Join(metaDir(dir, c.Name), metaFile), doc, 0o644}) {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
			return fmt.Errorf("writing the docker context %q: %w", c.Name, err)
		}
		if err := hostdb.WriteFile(f.path, f.data, f.mode); err != nil {
			return fmt.Errorf("writing the docker context %q: %w", c.Name, err)
		}
	}
	return nil
}

// ours errs unless there is a context of that name which berth has made: fs.ErrNotExist when there is none.
func ours(dir, name string) error {
	data, err := os.ReadFile(filepath.Join(metaDir(dir, name), metaFile))
	if err != nil {
		return err
	}
	var m meta
	if err := json.Unmarshal(data, &m); err != nil || !m.Metadata.Berth {
		return fmt.Errorf("the docker context %q %w", name, ErrForeign)
	}
	return nil
}

// Exists reports whether there is a context of that name which berth has made.
func Exists(dir, name string) bool { return ours(dir, name) == nil }

// Remove deletes a context that berth has made; any other stays, and that there is none is no error.
func Remove(dir, name string) error {
	err := ours(dir, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrForeign) {
		return nil
	}
	if err == nil {
		err = errors.Join(os.RemoveAll(metaDir(dir, name)), os.RemoveAll(tlsDir(dir, name)))
	}
	if err != nil {
		return fmt.Errorf("removing the docker context %q: %w", name, err)
	}
	return nil
}
