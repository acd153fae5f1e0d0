package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

const (
	metadataFile    = "volume.json"
	metadataVersion = 1
	// maxMetadata bounds what is read of a document. Labels and options come from one request, whose body is bounded too.
	maxMetadata = 8 << 20
)

// metadata is the document of a volume.
type metadata struct {
	Version int               `json:"version"`
	Name    string            `json:"-"` // the folder's
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
	Options map[string]string `json:"options,omitempty"`
}

func readMetadata(path string) (metadata, error) {
	f, err := os.Open(path)
	if err != nil {
		return metadata{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxMetadata+1))
	if err != nil {
		return metadata{}, err
	}
	return parseMetadata(data)
}

func parseMetadata(data []byte) (metadata, error) {
	if len(data) > maxMetadata {
		return metadata{}, fmt.Errorf("longer than %d bytes", maxMetadata)
	}
	var m metadata
	if err := json.Unmarshal(data, &m); err != nil {
		return metadata{}, err
	}
	if m.Version != metadataVersion {
		return metadata{}, fmt.Errorf("version %d is not known", m.Version)
	}
	if _, err := parseMount(m.Options); err != nil {
		return metadata{}, err
	}
	return m, nil
}

func writeMetadata(path string, m metadata) error {
	m.Version = metadataVersion
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes renames in a folder last.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
