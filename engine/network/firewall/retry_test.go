//go:build linux

package firewall

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

func TestRetry(t *testing.T) {
	silent, other := fmt.Errorf("receiving: %w", os.ErrDeadlineExceeded), errors.New("refused")
	for _, tt := range []struct {
		name    string
		answers []error
		want    error
		asked   int
	}{
		{"at once", []error{nil}, nil, 1},
		{"an answer is lost", []error{silent, nil}, nil, 2},
		{"a refusal is an answer", []error{other}, other, 1},
		{"silence has an end", []error{silent, silent, silent, nil}, silent, maxTries},
	} {
		asked := 0
		err := Retry(func() error { asked++; return tt.answers[asked-1] })
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) || asked != tt.asked {
			t.Errorf("%s: %v after %d tries; want %v after %d", tt.name, err, asked, tt.want, tt.asked)
		}
	}
}
