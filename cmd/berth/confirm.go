package main

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

// confirm asks the user. The end of the input is no answer, and an error: a script must not believe that something was done.
func (a *app) confirm(question string) (bool, error) {
	a.printf("%s (y/n): ", question)
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if errors.Is(err, io.EOF) && strings.TrimSpace(answer) == "" {
		a.printf("\n")
		return false, errors.New("no answer: nothing was done")
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y"), nil
}
