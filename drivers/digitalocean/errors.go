package digitalocean

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/digitalocean/godo"
)

// status is the HTTP status of the API's refusal, 0 if it was none.
func status(err error) int {
	var r *godo.ErrorResponse
	if errors.As(err, &r) && r.Response != nil {
		return r.Response.StatusCode
	}
	return 0
}

func isGone(err error) bool { return status(err) == http.StatusNotFound }

// unsure tells an error of a request of which it is not known whether it was done.
func unsure(err error) bool {
	if err == nil || notSent(err) {
		return false
	}
	code := status(err)
	return code == 0 || code >= 500 || code == http.StatusRequestTimeout
}

// explain says what an error of the API means to the user.
func explain(err error) error {
	var r *godo.ErrorResponse
	if !errors.As(err, &r) || r.Response == nil {
		return err
	}
	text := printable(r.Message)
	if text == "" && r.NestedError != nil {
		text = printable(r.NestedError.Message)
	}
	if text == "" {
		text = "no reason given"
	}
	if r.RequestID != "" {
		text += fmt.Sprintf(" (request %s)", printable(r.RequestID))
	}
	return &apiError{code: r.Response.StatusCode, text: text, err: err}
}

// apiError is a refusal of the API, in words for the user.
type apiError struct {
	code int
	text string
	err  error
}

func (e *apiError) Unwrap() error { return e.err }

func (e *apiError) Error() string {
	switch e.code {
	case http.StatusUnauthorized:
		return fmt.Sprintf("--%s: DigitalOcean does not accept the token: %s", tokenFlag, e.text)
	case http.StatusForbidden:
		return fmt.Sprintf("--%s: the token may not do this; it lacks a scope: %s", tokenFlag, e.text)
	case http.StatusTooManyRequests:
		return "DigitalOcean's limit of requests is reached: " + e.text
	}
	return fmt.Sprintf("DigitalOcean answers %d: %s", e.code, e.text)
}

// maxText bounds what is shown of a text from outside, in runes.
const maxText = 300

// printable makes a text from outside fit to be shown on a terminal.
func printable(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || unicode.IsSpace(r) {
			return r
		}
		return '?'
	}, s)), " ")
	if r := []rune(s); len(r) > maxText {
		s = string(r[:maxText]) + "…"
	}
	return s
}

// nearest words an end for an error about a name that does not exist: those that are most like it.
func nearest(name string, all []string) string {
	type near struct {
		name string
		far  int
	}
	var l []near
	for _, n := range slices.Compact(slices.Sorted(slices.Values(all))) {
		l = append(l, near{n, distance(name, n)})
	}
	slices.SortStableFunc(l, func(a, b near) int { return a.far - b.far })
	if len(l) == 0 {
		return "there are none"
	}
	if len(l) > 3 {
		l = l[:3]
	}
	names := make([]string, len(l))
	for i, n := range l {
		names[i] = n.name
	}
	return "the nearest are " + strings.Join(names, ", ")
}

// distance is the number of letters to change, add or drop. Texts are short; hostile ones are cut.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := left
			if a[i] != b[j] {
				cost = 1 + min(left, row[j], row[j+1])
			}
			left, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
