package changes

import (
	"fmt"
	"strings"
)

// maxExpanded bounds what variables can make of a line, in bytes: each may name one that was made of others.
const maxExpanded = 1 << 20

type pair struct{ key, value string }

// pairs reads KEY=value KEY="a value"…, or the old form: KEY and the rest of the line.
func (a *applier) pairs(rest string) ([]pair, error) {
	raw, err := split(rest)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(raw[0], "=") {
		key, value, ok := strings.Cut(rest, " ")
		if !ok {
			return nil, fmt.Errorf("%s must have two arguments", key)
		}
		value, err = a.expand(strings.TrimSpace(value))
		return []pair{{key, value}}, err
	}
	var pairs []pair
	for _, word := range raw {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fmt.Errorf("syntax error - can't find = in %q. Must be of the form: name=value", word)
		}
		if key, err = a.expand(key); err != nil {
			return nil, err
		}
		if key == "" {
			return nil, fmt.Errorf("names can not be blank")
		}
		if value, err = a.expand(value); err != nil {
			return nil, err
		}
		pairs = append(pairs, pair{key, value})
	}
	return pairs, nil
}

func (a *applier) words(rest string) ([]string, error) {
	raw, err := split(rest)
	if err != nil {
		return nil, err
	}
	for i, w := range raw {
		if raw[i], err = a.expand(w); err != nil {
			return nil, err
		}
	}
	return raw, nil
}

func (a *applier) word(rest string) (string, error) {
	words, err := a.words(rest)
	if err != nil {
		return "", err
	}
	if len(words) != 1 {
		return "", fmt.Errorf("requires exactly one argument")
	}
	return words[0], nil
}

// split cuts at blanks outside of quotes; quotes and backslashes stay for expand.
func split(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	escaped, inWord := false, false
	for _, r := range text {
		switch {
		case escaped:
			escaped = false
		case r == '\\' && quote != '\'':
			escaped = true
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
			continue
		}
		inWord = true
		word.WriteRune(r)
	}
	if quote != 0 {
		return nil, fmt.Errorf("unexpected end of statement while looking for matching %s quote", map[rune]string{'"': "double", '\'': "single"}[quote])
	}
	if inWord {
		words = append(words, word.String())
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("requires at least one argument")
	}
	return words, nil
}

// expand removes quotes and replaces $NAME, ${NAME}, ${NAME:-default} and ${NAME:+alternative} by the image's environment.
func (a *applier) expand(text string) (string, error) {
	var out strings.Builder
	var quote byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(text):
			i++
			if quote == '"' && !strings.ContainsRune("\"$\\", rune(text[i])) {
				out.WriteByte('\\')
			}
			out.WriteByte(text[i])
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case c == '$' && quote != '\'':
			value, n, err := a.variable(text[i:])
			if err != nil {
				return "", err
			}
			out.WriteString(value)
			i += n - 1
		default:
			out.WriteByte(c)
		}
		if out.Len() > maxExpanded {
			return "", fmt.Errorf("longer than %d bytes", maxExpanded)
		}
	}
	return out.String(), nil
}

// variable reads a reference at the start of text, and returns its value and its length.
func (a *applier) variable(text string) (value string, n int, err error) {
	if !strings.HasPrefix(text, "${") {
		n = 1 + nameLength(text[1:])
		if n == 1 {
			return "$", 1, nil
		}
		return a.lookup(text[1:n]), n, nil
	}
	end := strings.IndexByte(text, '}')
	if end < 0 {
		return "", 0, fmt.Errorf("syntax error: missing '}'")
	}
	inner := text[2:end]
	name := inner[:nameLength(inner)]
	value = a.lookup(name)
	switch rest := inner[len(name):]; {
	case name == "":
		return "", 0, fmt.Errorf("syntax error: bad substitution")
	case rest == "":
	case strings.HasPrefix(rest, ":-"):
		if value == "" {
			value = rest[2:]
		}
	case strings.HasPrefix(rest, ":+"):
		if value != "" {
			value = rest[2:]
		}
	default:
		return "", 0, fmt.Errorf("unsupported modifier (%s) in substitution", rest)
	}
	return value, end + 1, nil
}

func nameLength(text string) int {
	for i, c := range []byte(text) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(text)
}

func (a *applier) lookup(name string) string {
	for _, e := range a.c.Env {
		if k, v, _ := strings.Cut(e, "="); k == name {
			return v
		}
	}
	return ""
}
