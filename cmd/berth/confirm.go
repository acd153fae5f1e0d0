package main

import (
	"errors"
	"io"
	"strings"
)

// errNoAnswer is the end of the input where an answer was expected.
var errNoAnswer = errors.New("no answer: nothing was done")

// confirm asks the user. The end of the input is no answer, and an error: a script must not believe that something was done.
func (a *app) confirm(question string) (bool, error) {
	a.printf("%s (y/n): ", question)
	answer, err := a.readLine()
	if errors.Is(err, io.EOF) && answer == "" {
		a.printf("\n")
		return false, errNoAnswer
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return strings.HasPrefix(strings.ToLower(answer), "y"), nil
}

// maxLine bounds an answer, in bytes.
const maxLine = 4 << 10

// readLine reads one line and nothing beyond it, which is the answer to the next question.
func (a *app) readLine() (string, error) {
	var line []byte
	var b [1]byte
	for len(line) < maxLine {
		n, err := a.in.Read(b[:])
		if n > 0 && b[0] == '\n' {
			break
		}
		line = append(line, b[:n]...)
		if err != nil {
			return strings.TrimSpace(string(line)), err
		}
	}
	return strings.TrimSpace(string(line)), nil
}
